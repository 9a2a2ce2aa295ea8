// mma and what is undefined: which elements of D depend on undefined ones of A and B.
#ifndef TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_
#define TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_

#include <array>

#include "absl/strings/string_view.h"
#include "server/device/emulator/checks/definedness.h"

namespace trun::device {

// Undefined bytes of the fragments of one mma, register by register.
struct MatrixFragments {
  std::array<LaneBytes, 8> a = {}, c = {};
  std::array<LaneBytes, 4> b = {};
  std::array<LaneBytes, 8> d = {};  // the result
};

// Sets d from a, b and c for the mma written as `text`: by products of the same shape of ones and zeros, so
// that rows of garbage make rows of garbage and nothing else. All defined for a shape that has no such
// product (1, 4 and 6 bits).
void PropagateMma(absl::string_view text, MatrixFragments* fragments);

}  // namespace trun::device

#endif  // TRUN_SERVER_DEVICE_EMULATOR_CHECKS_MATRIX_DEFINEDNESS_H_
