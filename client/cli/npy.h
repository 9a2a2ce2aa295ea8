// NumPy's .npy files, versions 1.0, 2.0 and 3.0 (NEP 1). Pure functions but for the two that name a path.
#ifndef TRUN_CLIENT_CLI_NPY_H_
#define TRUN_CLIENT_CLI_NPY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/scalar_type.h"

namespace trun::cli {

struct NpyArray {
  // kUnspecified for raw elements ('|V1', '<V2'): what NumPy writes for ml_dtypes' bfloat16 and float8 types.
  ScalarType dtype = ScalarType::kUnspecified;
  size_t element_bytes = 0;
  std::vector<uint64_t> shape;
  std::string data;  // row-major; Fortran order is undone on reading
};

// INVALID_ARGUMENT for whatever is not a .npy file of numbers: bad magic, header, dtype (big-endian, complex,
// objects, strings), or a size that its header does not say. Nothing is allocated on the header's word alone.
absl::StatusOr<NpyArray> ParseNpy(absl::string_view file);
// Version 1.0. bf16 and the f8 types are written raw ('<V2', '|V1'): np.load(f).view(ml_dtypes.bfloat16).
// REQUIRES: data.size() fits shape and dtype.
std::string FormatNpy(ScalarType dtype, const std::vector<uint64_t>& shape, absl::string_view data);

// The same from and to a file. NOT_FOUND, PERMISSION_DENIED, ...: the file.
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);
// Written beside it and moved over it: a reader never sees half a file.
absl::Status WriteNpy(const std::string& path, ScalarType dtype, const std::vector<uint64_t>& shape,
                      absl::string_view data);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_NPY_H_
