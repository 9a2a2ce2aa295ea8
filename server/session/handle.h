#ifndef TRUN_SERVER_SESSION_HANDLE_H_
#define TRUN_SERVER_SESSION_HANDLE_H_

#include <string>

namespace trun {

// "t-" and 32 hexadecimal digits from the system's random source: nobody can guess one. Thread-safe.
std::string MintHandle(char kind);

}  // namespace trun

#endif  // TRUN_SERVER_SESSION_HANDLE_H_
