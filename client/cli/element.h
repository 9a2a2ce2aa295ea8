// Elements of tensors as numbers: every type that Triton has. Pure functions.
#ifndef TRUN_CLIENT_CLI_ELEMENT_H_
#define TRUN_CLIENT_CLI_ELEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/scalar_type.h"

namespace trun::cli {

bool IsFloat(ScalarType type);
bool IsSignedInteger(ScalarType type);

// Appends `value` as one little-endian element. Floats round to nearest even; what is beyond the largest
// becomes infinity where the type has one, NaN where it has not (the OCP rule without saturation). Integers
// round toward zero and are clamped to the type's range; NaN is 0. i1: anything but 0 is 1.
void AppendElement(ScalarType type, double value, std::string* out);
// The same for an exact integer.
void AppendInteger(ScalarType type, int64_t value, std::string* out);
// REQUIRES: `index` < bytes.size() / ScalarTypeBytes(type). Integers over 2^53 are rounded.
double ElementAt(ScalarType type, absl::string_view bytes, size_t index);

// Number of elements; RESOURCE_EXHAUSTED where the bytes do not fit 2^40.
absl::StatusOr<uint64_t> ElementCount(const std::vector<uint64_t>& shape);
// "[3, 7]" for the index of an element in a row-major tensor of that shape.
std::string FormatIndex(uint64_t index, const std::vector<uint64_t>& shape);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_ELEMENT_H_
