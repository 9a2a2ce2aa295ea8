#include "server/session/handle.h"

#include <sys/random.h>

#include <cstdint>
#include <cstdlib>

namespace trun {

std::string MintHandle(char kind) {
  constexpr size_t kBytes = 16;
  constexpr char kDigits[] = "0123456789abcdef";
  uint8_t random[kBytes];
  // Up to 256 bytes come whole or not at all, and only a kernel without the call refuses.
  if (getrandom(random, kBytes, 0) != static_cast<ssize_t>(kBytes)) std::abort();
  std::string handle = {kind, '-'};
  handle.reserve(2 + 2 * kBytes);
  for (const uint8_t byte : random) {
    handle.push_back(kDigits[byte >> 4]);
    handle.push_back(kDigits[byte & 15]);
  }
  return handle;
}

}  // namespace trun
