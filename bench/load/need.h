// A benchmark that cannot go on says why and ends with exit code 1.
#ifndef TRUN_BENCH_LOAD_NEED_H_
#define TRUN_BENCH_LOAD_NEED_H_

#include <cstdlib>
#include <iostream>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace trun {

inline void Need(const absl::Status& status) {
  if (status.ok()) return;
  std::cerr << status << std::endl;
  std::exit(1);
}

template <typename T>
T Need(absl::StatusOr<T> value) {
  Need(value.status());
  return *std::move(value);
}

}  // namespace trun

#endif  // TRUN_BENCH_LOAD_NEED_H_
