#ifndef TRUN_CLIENT_PINNED_MEMORY_H_
#define TRUN_CLIENT_PINNED_MEMORY_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/types/span.h"

namespace trun {
inline namespace client {

// Memory of this process from and to which the session's GPU copies by itself: a Tensor::Write from it or a
// Tensor::Read into it is one DMA, where other memory is copied by the host first. Zero when it is made.
//
// Launches, writes and reads see it as it is when they run: do not change it meanwhile. Movable; may outlive
// its session, whose end makes it ordinary memory. Thread-compatible.
class PinnedMemory {
 public:
  PinnedMemory() = default;  // of no bytes
  PinnedMemory(PinnedMemory&&) noexcept = default;
  PinnedMemory& operator=(PinnedMemory&&) noexcept = default;

  absl::Span<char> bytes() const { return bytes_; }
  // As elements of T; the memory is aligned to pages.
  template <typename T>
  absl::Span<T> As() const {
    return absl::Span<T>(reinterpret_cast<T*>(bytes_.data()), bytes_.size() / sizeof(T));
  }
  // Empty where the device copies by itself; else why it does not: everything works, slower.
  const std::string& unpinned_reason() const { return unpinned_reason_; }

 private:
  friend class Session;
  std::shared_ptr<const void> owner_;
  absl::Span<char> bytes_;
  std::string unpinned_reason_;
};

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_PINNED_MEMORY_H_
