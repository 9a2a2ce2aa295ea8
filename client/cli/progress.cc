#include "client/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/text.h"

namespace trun::cli {
namespace {

constexpr std::chrono::milliseconds kShowAfter(1000);
constexpr std::chrono::milliseconds kRedraw(200);
constexpr size_t kBarColumns = 24;

size_t TerminalColumns() {
  struct winsize size;
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

Progress::Progress(const Console& console, std::string what)
    : what_(std::move(what)), start_(std::chrono::steady_clock::now()) {
  if (console.error_is_terminal()) thread_ = std::thread([this] { Loop(); });
}

Progress::~Progress() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mu_);
    done_ = true;
  }
  wake_.SignalAll();
  thread_.join();
}

void Progress::Update(absl::string_view step, double fraction) {
  if (!thread_.joinable()) return;
  MutexLock lock(&mu_);
  step_ = std::string(step);
  fraction_ = std::min(fraction, 1.0);
  wake_.SignalAll();
}

std::string Progress::RenderLine(absl::string_view what, absl::string_view step, double fraction,
                                 std::chrono::seconds elapsed, size_t columns) {
  std::string line(what);
  if (fraction >= 0) {
    const size_t full = static_cast<size_t>(std::min(fraction, 1.0) * kBarColumns + 0.5);
    absl::StrAppend(&line, "  [", std::string(full, '#'), std::string(kBarColumns - full, '.'), "] ",
                    absl::StrFormat("%3.0f%%", std::min(fraction, 1.0) * 100));
  }
  absl::StrAppend(&line, "  ", elapsed.count(), " s");
  if (!step.empty()) absl::StrAppend(&line, "  ", Printable(step));
  std::replace(line.begin(), line.end(), '\n', ' ');
  while (DisplayWidth(line) > columns) line.pop_back();
  // Not into the middle of a character.
  while (!line.empty() && line.size() >= columns && (static_cast<unsigned char>(line.back()) & 0x80) != 0)
    line.pop_back();
  return line;
}

void Progress::Loop() {
  auto next = start_ + kShowAfter;
  bool shown = false;
  for (;;) {
    std::string line;
    {
      MutexLock lock(&mu_);
      while (!done_ && std::chrono::steady_clock::now() < next) wake_.WaitUntil(&mu_, next);
      if (done_) break;
      const auto elapsed =
          std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - start_);
      line = RenderLine(what_, step_, fraction_, elapsed, TerminalColumns() - 1);
    }
    std::fprintf(stderr, "\r\x1b[2K%s", line.c_str());
    std::fflush(stderr);
    shown = true;
    next = std::chrono::steady_clock::now() + kRedraw;
  }
  if (!shown) return;
  std::fputs("\r\x1b[2K", stderr);
  std::fflush(stderr);
}

}  // namespace trun::cli
