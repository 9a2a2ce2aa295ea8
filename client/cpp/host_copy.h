#ifndef TRUN_CLIENT_CPP_HOST_COPY_H_
#define TRUN_CLIENT_CPP_HOST_COPY_H_

#include <cstddef>

namespace trun {
inline namespace client {

// memcpy for what this processor will not read again soon: stores that go past its caches, where it has such,
// and leave them to others. The ranges do not overlap.
void CopyPastCaches(char* to, const char* from, size_t bytes);

}  // namespace client
}  // namespace trun

#endif  // TRUN_CLIENT_CPP_HOST_COPY_H_
