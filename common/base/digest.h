// SHA-256 digests: what names every artifact and every cache entry.
#ifndef TRUN_COMMON_BASE_DIGEST_H_
#define TRUN_COMMON_BASE_DIGEST_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace trun {

// A SHA-256 value. A plain value type; comparable and hashable.
class Digest {
 public:
  static constexpr size_t kBytes = 32;

  Digest() = default;  // all zero: the digest of nothing in particular
  // INVALID_ARGUMENT unless `hex` is 64 hexadecimal digits.
  static absl::StatusOr<Digest> FromHex(absl::string_view hex);
  // INVALID_ARGUMENT unless `raw` has 32 bytes.
  static absl::StatusOr<Digest> FromBytes(absl::string_view raw);
  // The digest of `data`.
  static Digest Of(absl::string_view data);

  std::string ToHex() const;
  absl::string_view bytes() const {
    return absl::string_view(reinterpret_cast<const char*>(bytes_.data()), bytes_.size());
  }

  friend bool operator==(const Digest& a, const Digest& b) { return a.bytes_ == b.bytes_; }
  friend bool operator!=(const Digest& a, const Digest& b) { return !(a == b); }
  friend bool operator<(const Digest& a, const Digest& b) { return a.bytes_ < b.bytes_; }
  template <typename H>
  friend H AbslHashValue(H h, const Digest& d) {
    return H::combine(std::move(h), d.bytes_);
  }

 private:
  friend class Hasher;
  std::array<uint8_t, kBytes> bytes_{};
};

// Digests a sequence of fields, each framed by its length, so that ("ab","c") and ("a","bc") differ.
// Thread-compatible.
class Hasher {
 public:
  Hasher();
  ~Hasher();
  Hasher(const Hasher&) = delete;
  Hasher& operator=(const Hasher&) = delete;

  Hasher& Add(absl::string_view field);
  Hasher& Add(uint64_t number);
  // REQUIRES: called once, last.
  Digest Finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace trun

#endif  // TRUN_COMMON_BASE_DIGEST_H_
