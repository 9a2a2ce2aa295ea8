#ifndef TRUN_CLIENT_CLI_COMPARE_H_
#define TRUN_CLIENT_CLI_COMPARE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/scalar_type.h"

namespace trun::cli {

// A tensor's values. Refers to bytes that the caller keeps.
struct TensorView {
  ScalarType dtype = ScalarType::kUnspecified;
  std::vector<uint64_t> shape;
  absl::string_view bytes;
};

struct Tolerance {
  double relative = 0;
  double absolute = 0;
  bool equal_nan = false;  // a NaN where one is expected is right
};

// What is accepted where nothing was given: by the less exact of the two types. Integers: equal.
Tolerance DefaultTolerance(ScalarType got, ScalarType expected);

struct Comparison {
  uint64_t elements = 0;
  uint64_t mismatches =
      0;  // |got - expected| > absolute + relative * |expected|, or a NaN or infinity astray
  double largest_error = 0;  // |got - expected|, NaN where a NaN is astray
  // The worst element: the mismatch furthest over its tolerance, else the one with the largest error.
  uint64_t worst_index = 0;
  double worst_got = 0;
  double worst_expected = 0;
};

// INVALID_ARGUMENT kArgument: other shapes.
absl::StatusOr<Comparison> Compare(const TensorView& got, const TensorView& expected,
                                   const Tolerance& tolerance);

struct Summary {
  double min = 0, max = 0, mean = 0;  // of the finite elements
  uint64_t not_finite = 0;
  std::vector<double> first;  // up to 8
};
Summary Summarize(const TensorView& tensor);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_COMPARE_H_
