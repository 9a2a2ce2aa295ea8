#ifndef TRUN_CLIENT_CLI_CONSOLE_H_
#define TRUN_CLIENT_CLI_CONSOLE_H_

#include <string>

#include "absl/strings/string_view.h"
#include "nlohmann/json_fwd.hpp"

namespace trun::cli {

// Where trun-client writes: results to standard output, errors and progress to standard error.
// Thread-compatible.
class Console {
 public:
  enum class Color { kAuto, kAlways, kNever };

  // kAuto: colours on a terminal unless NO_COLOR is set or TERM is "dumb".
  explicit Console(Color color = Color::kAuto);

  void Print(absl::string_view text);                  // to standard output, as it is
  void PrintJson(const nlohmann::ordered_json& json);  // one object, indented; bad UTF-8 replaced
  void PrintError(absl::string_view text);             // to standard error
  // The end of the results: 0, or the errno of the first write that failed.
  int Flush();

  bool error_color() const { return error_color_; }
  bool output_color() const { return output_color_; }
  // Whether a progress bar has somewhere to be.
  bool error_is_terminal() const { return error_is_terminal_; }

 private:
  int output_error_ = 0;
  bool output_color_;
  bool error_color_;
  bool error_is_terminal_;
};

}  // namespace trun::cli

#endif  // TRUN_CLIENT_CLI_CONSOLE_H_
