// The front end's Python source, built into the binary: what runs is always what this build was tested with.
#ifndef TRUN_SERVER_TOOLCHAIN_FRONTEND_FRONTEND_SOURCE_H_
#define TRUN_SERVER_TOOLCHAIN_FRONTEND_FRONTEND_SOURCE_H_

#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace trun {

// Path → content of all that lies in the front end's folder and its package trun_worker; trun_frontend.py is
// what is started.
std::map<std::string, absl::string_view> FrontendSource();

}  // namespace trun

#endif  // TRUN_SERVER_TOOLCHAIN_FRONTEND_FRONTEND_SOURCE_H_
