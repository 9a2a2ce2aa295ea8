// Everything an executor can say, as trund decodes it.
#include <cstddef>
#include <cstdint>

#include "server/executor/protocol/messages.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  trun::internal::v1::ExecutorReply reply;
  if (!reply.ParseFromArray(data, static_cast<int>(size))) return 0;
  absl::Status status;
  trun::DecodeStatus(reply.status(), &status).IgnoreError();
  trun::DecodeDeviceInfo(reply.hello()).IgnoreError();
  trun::DecodeKernelAttributes(reply.load_kernel()).IgnoreError();
  trun::DecodeFault(reply.launch().fault()).IgnoreError();
  return 0;
}
