#include "client/cpp/tensor_mapping.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/rpc/descriptor_socket.h"

namespace trun {
inline namespace client {

Tensor::Mapping::~Mapping() {
  if (base != nullptr) munmap(base, mapped_bytes);
}

absl::Status Tensor::Mapping::NotHere(const SessionState& state, const std::string& handle) {
  return FailedPrecondition(Reason::kUnspecified,
                            absl::StrCat("the memory of tensor ", handle, " on ", state.opened.device(),
                                         " cannot be mapped into this process: use Read and Write"));
}

absl::StatusOr<std::shared_ptr<Tensor::Mapping>> Tensor::Mapping::Make(SessionState& state,
                                                                       const std::string& handle,
                                                                       uint64_t bytes) {
  const absl::Status not_here = NotHere(state, handle);
  if (state.opened.descriptor_socket().empty()) return not_here;
  v1::ExportDescriptorsRequest request;
  request.set_session(state.id);
  request.add_tensors(handle);
  TRUN_ASSIGN_OR_RETURN(const v1::ExportDescriptorsResponse response,
                        Call(*state.sessions, &v1::SessionService::Stub::ExportDescriptors, request));
  TRUN_ASSIGN_OR_RETURN(std::vector<UniqueFd> descriptors,
                        ReceiveDescriptors(state.opened.descriptor_socket(), response.token()));
  if (response.tensors_size() != 1 || response.tensors(0).descriptor_index() >= descriptors.size()) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     "the daemon's descriptors do not fit what it said of them");
  }
  const v1::ExportedTensor& exported = response.tensors(0);
  auto mapping = std::make_shared<Mapping>();
  mapping->fd = std::move(descriptors[exported.descriptor_index()]);
  mapping->fd_offset = exported.offset();
  mapping->bytes = bytes;
  // The descriptor's own size is what counts: past its end a mapping would end this process with SIGBUS.
  struct stat info;
  if (fstat(mapping->fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) return not_here;
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (exported.offset() > size || bytes > size - exported.offset()) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     absl::StrCat("tensor ", handle, " reaches past the end of its descriptor"));
  }
  return mapping;
}

absl::Status Tensor::Mapping::EnsurePages() {
  if (data != nullptr || bytes == 0) return absl::OkStatus();
  // Without this seal the other side could shrink the file, and a read here would end this process.
  const int seals = fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    return FailedPrecondition(Reason::kProtocol,
                              "the tensor's memory is not sealed against shrinking: not mapped");
  }
  const uint64_t page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const uint64_t start = fd_offset / page * page;
  const size_t length = static_cast<size_t>(fd_offset + bytes - start);
  void* mapped =
      mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), static_cast<off_t>(start));
  if (mapped == MAP_FAILED) return FromErrno(errno, "cannot map a tensor's memory", Reason::kOutOfMemory);
  base = mapped;
  mapped_bytes = length;
  data = static_cast<char*>(mapped) + (fd_offset - start);
  return absl::OkStatus();
}

absl::Status Tensor::Mapping::Write(absl::string_view from, uint64_t offset) {
  // Where a mapping is refused, the descriptor still takes the bytes.
  if (std::exchange(used, true)) EnsurePages().IgnoreError();
  if (data != nullptr) {
    std::memcpy(data + offset, from.data(), from.size());
    return absl::OkStatus();
  }
  // Into pages that were never touched: the kernel copies without first clearing them and without a fault for
  // each.
  while (!from.empty()) {
    const ssize_t n = pwrite(fd.get(), from.data(), std::min<size_t>(from.size(), 1u << 30),
                             static_cast<off_t>(fd_offset + offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return FromErrno(n == 0 ? EIO : errno, "cannot write a tensor's memory", Reason::kOutOfMemory);
    from.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

absl::Status Tensor::Mapping::Read(absl::Span<char> out, uint64_t offset) {
  // Where a mapping is refused, the descriptor still takes the bytes.
  if (std::exchange(used, true)) EnsurePages().IgnoreError();
  if (data != nullptr) {
    std::memcpy(out.data(), data + offset, out.size());
    return absl::OkStatus();
  }
  while (!out.empty()) {
    const ssize_t n = pread(fd.get(), out.data(), std::min<size_t>(out.size(), 1u << 30),
                            static_cast<off_t>(fd_offset + offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return FromErrno(n == 0 ? EIO : errno, "cannot read a tensor's memory", Reason::kInternal);
    out.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return absl::OkStatus();
}

}  // namespace client
}  // namespace trun
