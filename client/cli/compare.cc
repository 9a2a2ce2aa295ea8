#include "client/cli/compare.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "client/cli/element.h"
#include "client/cli/text.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

Tolerance OfType(ScalarType type) {
  switch (type) {
    case ScalarType::kF64:
      return {1e-7, 1e-9};
    case ScalarType::kF32:
      return {1e-4, 1e-5};
    case ScalarType::kF16:
      return {1e-2, 1e-3};
    case ScalarType::kBf16:
      return {2e-2, 1e-2};
    case ScalarType::kF8E4M3:
    case ScalarType::kF8E4M3B15:
    case ScalarType::kF8E4M3Fnuz:
      return {0.125, 0.0625};
    case ScalarType::kF8E5M2:
    case ScalarType::kF8E5M2Fnuz:
      return {0.25, 0.125};
    default:
      return {0, 0};
  }
}

}  // namespace

Tolerance DefaultTolerance(ScalarType got, ScalarType expected) {
  const Tolerance a = OfType(got), b = OfType(expected);
  return a.relative >= b.relative ? a : b;
}

absl::StatusOr<Comparison> Compare(const TensorView& got, const TensorView& expected,
                                   const Tolerance& tolerance) {
  if (got.shape != expected.shape) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("the result has shape ", FormatShape(got.shape),
                                        " and the expected one ", FormatShape(expected.shape)));
  }
  Comparison result;
  result.elements = got.bytes.size() / std::max<size_t>(1, ScalarTypeBytes(got.dtype));
  double worst = -1;  // how bad the worst one is: mismatches from 2 on, by their excess; others below 1
  for (uint64_t i = 0; i < result.elements; ++i) {
    const double a = ElementAt(got.dtype, got.bytes, i);
    const double b = ElementAt(expected.dtype, expected.bytes, i);
    double error = std::fabs(a - b);
    bool wrong;
    if (std::isnan(a) || std::isnan(b)) {
      wrong = !(std::isnan(a) && std::isnan(b) && tolerance.equal_nan);
      error = wrong ? std::numeric_limits<double>::quiet_NaN() : 0;
    } else if (std::isinf(a) || std::isinf(b)) {
      wrong = a != b;
      error = wrong ? std::numeric_limits<double>::infinity() : 0;
    } else {
      wrong = error > tolerance.absolute + tolerance.relative * std::fabs(b);
    }
    result.mismatches += wrong ? 1 : 0;
    double badness;
    if (wrong) {
      const double allowed = tolerance.absolute + tolerance.relative * std::fabs(b);
      const double excess = std::isfinite(error) && allowed > 0 ? error / allowed : error;
      badness = std::isnan(error) ? std::numeric_limits<double>::infinity() : 2 + std::min(excess, 1e300);
    } else {
      badness = error / (1 + error);
    }
    if (std::isnan(error) || error > result.largest_error) {
      result.largest_error = std::isnan(result.largest_error) ? result.largest_error : error;
    }
    if (badness > worst) {
      worst = badness;
      result.worst_index = i;
      result.worst_got = a;
      result.worst_expected = b;
    }
  }
  return result;
}

Summary Summarize(const TensorView& tensor) {
  Summary summary;
  const size_t width = ScalarTypeBytes(tensor.dtype);
  const uint64_t count = width == 0 ? 0 : tensor.bytes.size() / width;
  double sum = 0;
  uint64_t finite = 0;
  for (uint64_t i = 0; i < count; ++i) {
    const double value = ElementAt(tensor.dtype, tensor.bytes, i);
    if (i < 8) summary.first.push_back(value);
    if (!std::isfinite(value)) {
      ++summary.not_finite;
      continue;
    }
    summary.min = finite == 0 ? value : std::min(summary.min, value);
    summary.max = finite == 0 ? value : std::max(summary.max, value);
    sum += value;
    ++finite;
  }
  summary.mean = finite == 0 ? 0 : sum / static_cast<double>(finite);
  return summary;
}

}  // namespace trun::cli
