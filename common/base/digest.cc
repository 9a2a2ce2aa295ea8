#include "common/base/digest.h"

#include <openssl/evp.h>

#include <cstring>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {

struct Hasher::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  ~State() { EVP_MD_CTX_free(context); }
};

absl::StatusOr<Digest> Digest::FromHex(absl::string_view hex) {
  const bool is_hex = hex.find_first_not_of("0123456789abcdefABCDEF") == absl::string_view::npos;
  if (hex.size() != 2 * kBytes || !is_hex) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("'", hex, "' is not a digest of 64 hexadecimal digits"));
  }
  return FromBytes(absl::HexStringToBytes(hex));
}

absl::StatusOr<Digest> Digest::FromBytes(absl::string_view raw) {
  if (raw.size() != kBytes) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("a digest has 32 bytes, not ", raw.size()));
  }
  Digest digest;
  std::memcpy(digest.bytes_.data(), raw.data(), kBytes);
  return digest;
}

Digest Digest::Of(absl::string_view data) {
  Digest digest;
  EVP_Digest(data.data(), data.size(), digest.bytes_.data(), nullptr, EVP_sha256(), nullptr);
  return digest;
}

std::string Digest::ToHex() const { return absl::BytesToHexString(bytes()); }

Hasher::Hasher() : state_(std::make_unique<State>()) {
  EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr);
}
Hasher::~Hasher() = default;

Hasher& Hasher::Add(absl::string_view field) {
  Add(static_cast<uint64_t>(field.size()));
  EVP_DigestUpdate(state_->context, field.data(), field.size());
  return *this;
}

Hasher& Hasher::Add(uint64_t number) {
  uint8_t little_endian[8];
  for (int i = 0; i < 8; ++i) little_endian[i] = static_cast<uint8_t>(number >> (8 * i));
  EVP_DigestUpdate(state_->context, little_endian, sizeof(little_endian));
  return *this;
}

Digest Hasher::Finish() {
  Digest digest;
  EVP_DigestFinal_ex(state_->context, digest.bytes_.data(), nullptr);
  return digest;
}

}  // namespace trun
