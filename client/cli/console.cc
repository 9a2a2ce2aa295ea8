#include "client/cli/console.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

bool IsColorTerminal(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(fd) == 1 && (no_color == nullptr || *no_color == '\0') &&
         !(term != nullptr && absl::string_view(term) == "dumb");
}

}  // namespace

Console::Console(Color color)
    : output_color_(color == Color::kAlways || (color == Color::kAuto && IsColorTerminal(STDOUT_FILENO))),
      error_color_(color == Color::kAlways || (color == Color::kAuto && IsColorTerminal(STDERR_FILENO))),
      error_is_terminal_(isatty(STDERR_FILENO) == 1) {}

void Console::Print(absl::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() && output_error_ == 0)
    output_error_ = errno;
}

int Console::Flush() {
  if (std::fflush(stdout) != 0 && output_error_ == 0) output_error_ = errno;
  return output_error_;
}

void Console::PrintJson(const nlohmann::ordered_json& json) {
  Print(json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  Print("\n");
}

void Console::PrintError(absl::string_view text) {
  Flush();  // so that the two streams of one terminal stay in order
  std::fwrite(text.data(), 1, text.size(), stderr);
}

}  // namespace trun::cli
