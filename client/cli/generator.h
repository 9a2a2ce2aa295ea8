// Seeded test data. The algorithms are fixed for good (docs/cli.md) and have a NumPy twin,
// examples/reference.py, so that a reference can be computed outside trun from the same numbers.
//
//   r(seed, i)  splitmix64: the finaliser of seed * 0xD1342543DE82EF95 + (i + 1) * 0x9E3779B97F4A7C15 (mod
//   2^64) u(seed, i)  (r(seed, i) >> 11) * 2^-53, in [0, 1) rand        lo + (hi - lo) * u(seed, i) randint
//   lo + r(seed, i) mod (hi - lo), in [lo, hi) randn       Box-Muller: elements 2k and 2k+1 are mean + std *
//   R * cos(A) and mean + std * R * sin(A) with
//               R = sqrt(-2 ln(1 - u(seed, 2k))), A = 2 pi u(seed, 2k+1)
// All in double, then rounded once to the tensor's type (to nearest, ties to even).
#ifndef TRUN_CLIENT_CLI_GENERATOR_H_
#define TRUN_CLIENT_CLI_GENERATOR_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "common/ir/scalar_type.h"

namespace trun::cli {

// What fills a tensor. A plain value type.
struct Generator {
  enum class Kind { kZeros, kOnes, kFull, kArange, kRand, kRandn, kRandint, kEye, kNan };
  Kind kind = Kind::kZeros;
  uint64_t seed = 0;
  double low = 0;   // full: the value; arange: start; rand, randint: lo; randn: mean
  double high = 1;  // arange: step; rand, randint: hi; randn: std
};

// "randn", "randn(seed=1)", "rand(1, -1, 1)", "full(3.5)": arguments by position or name.
// INVALID_ARGUMENT that says what is wrong and lists the generators.
absl::StatusOr<Generator> ParseGenerator(absl::string_view text);

// The tensor's bytes, row-major. INVALID_ARGUMENT: eye of what is no matrix, nan of integers.
absl::StatusOr<std::string> Generate(const Generator& generator, ScalarType dtype,
                                     const std::vector<uint64_t>& shape);

// r(seed, i) above.
uint64_t RandomBits(uint64_t seed, uint64_t index);

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_GENERATOR_H_
