#include "server/device/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun::device {
namespace {

// Below this a memset is cheaper than giving pages back and faulting them in again.
constexpr uint64_t kPunchBytes = 64 << 10;

}  // namespace

absl::StatusOr<UniqueFd> CreateSealedMemory(uint64_t bytes) {
  UniqueFd fd(memfd_create("trun-arena", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return FromErrno(errno, "memfd_create for an arena", Reason::kOutOfMemory);
  if (ftruncate(fd.get(), static_cast<off_t>(bytes)) != 0) {
    return FromErrno(errno, absl::StrCat("sizing an arena of ", bytes, " bytes"), Reason::kOutOfMemory);
  }
  if (fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return FromErrno(errno, "sealing an arena");
  }
  return fd;
}

MappedMemory::MappedMemory(MappedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

MappedMemory& MappedMemory::operator=(MappedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedMemory::~MappedMemory() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

absl::StatusOr<MappedMemory> MappedMemory::Map(const UniqueFd& fd, uint64_t bytes) {
  void* const data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd.get(), 0);
  if (data == MAP_FAILED) {
    return ResourceExhausted(Reason::kOutOfMemory, absl::StrCat("cannot map an arena of ", bytes,
                                                                " bytes: ", std::strerror(errno)));
  }
  // Advice only: kernels without huge pages for shared memory refuse it.
  (void)madvise(data, bytes, MADV_HUGEPAGE);
  MappedMemory mapping;
  mapping.data_ = static_cast<char*>(data);
  mapping.bytes_ = bytes;
  return mapping;
}

absl::Status ZeroRange(const UniqueFd& fd, const MappedMemory& mapping, uint64_t offset, uint64_t bytes) {
  const uint64_t end = offset + bytes;
  const uint64_t first_page = (offset + kPageBytes - 1) / kPageBytes * kPageBytes;
  const uint64_t last_page = end / kPageBytes * kPageBytes;
  if (bytes < kPunchBytes || last_page <= first_page) {
    std::memset(mapping.data() + offset, 0, bytes);
    return absl::OkStatus();
  }
  std::memset(mapping.data() + offset, 0, first_page - offset);
  std::memset(mapping.data() + last_page, 0, end - last_page);
  if (fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(first_page),
                static_cast<off_t>(last_page - first_page)) != 0) {
    return FromErrno(errno, "giving pages of an arena back");
  }
  return absl::OkStatus();
}

}  // namespace trun::device
