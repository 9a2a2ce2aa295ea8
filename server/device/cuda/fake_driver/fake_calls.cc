#include "server/device/cuda/fake_driver/fake_calls.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace trun::fake_cuda {

void Log(const std::string& line) {
  const char* const log = std::getenv("TRUN_FAKE_CUDA_LOG");
  if (log == nullptr) return;
  const int file = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return;
  dprintf(file, "%s\n", line.c_str());
  close(file);
}

CUresult Enter(const char* function) {
  Log(function);
  const char* const fail = std::getenv("TRUN_FAKE_CUDA_FAIL");
  if (fail == nullptr) return CUDA_SUCCESS;
  const std::string list = std::string(",") + fail;
  const size_t at = list.find(std::string(",") + function + "=");
  if (at == std::string::npos) return CUDA_SUCCESS;
  return static_cast<CUresult>(std::atoi(list.c_str() + at + 2 + std::strlen(function)));
}

}  // namespace trun::fake_cuda
