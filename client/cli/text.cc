#include "client/cli/text.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace trun::cli {
namespace {

std::string Significant(double value) {
  const char* format = value < 9.995 ? "%.2f" : value < 99.95 ? "%.1f" : "%.0f";
  std::string text;
  switch (format[2]) {
    case '2':
      text = absl::StrFormat("%.2f", value);
      break;
    case '1':
      text = absl::StrFormat("%.1f", value);
      break;
    default:
      text = absl::StrFormat("%.0f", value);
  }
  return text;
}

bool IsNumeric(const std::string& cell) {
  return !cell.empty() &&
         (absl::ascii_isdigit(static_cast<unsigned char>(cell[0])) || cell[0] == '-' || cell == "nan");
}

std::string CellText(absl::string_view cell) {
  std::string text = Printable(cell);
  for (char& c : text) {
    if (c == '\n' || c == '\t') c = ' ';
  }
  return text;
}

}  // namespace

std::string DurationText(absl::Duration duration) {
  if (duration < absl::ZeroDuration()) return absl::StrCat("-", DurationText(-duration));
  const double ns = absl::ToDoubleNanoseconds(duration);
  if (ns < 999.5) return absl::StrFormat("%.0f ns", ns);
  if (ns < 999.5e3) return absl::StrCat(Significant(ns / 1e3), " us");
  if (ns < 999.5e6) return absl::StrCat(Significant(ns / 1e6), " ms");
  if (ns < 59.95e9) return absl::StrCat(Significant(ns / 1e9), " s");
  const int64_t seconds = absl::ToInt64Seconds(duration + absl::Milliseconds(500));
  if (seconds < 3600) return absl::StrCat(seconds / 60, " min ", seconds % 60, " s");
  if (seconds < 86400) return absl::StrCat(seconds / 3600, " h ", seconds % 3600 / 60, " min");
  return absl::StrCat(seconds / 86400, " d ", seconds % 86400 / 3600, " h");
}

std::string FormatBytes(uint64_t bytes) {
  if (bytes < 1024) return absl::StrCat(bytes, " B");
  static constexpr absl::string_view kUnits[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  while (value >= 1023.95 && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  const std::string number =
      value == std::floor(value) ? absl::StrFormat("%.0f", value) : absl::StrFormat("%.1f", value);
  return absl::StrCat(number, " ", kUnits[unit]);
}

std::string FormatCount(uint64_t count) {
  std::string digits = absl::StrCat(count);
  if (digits.size() < 5) return digits;
  for (size_t at = digits.size(); at > 3;) {
    at -= 3;
    digits.insert(at, ",");
  }
  return digits;
}

std::string FormatNumber(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return absl::StrFormat("%.6g", value);
}

std::string FormatShape(const std::vector<uint64_t>& shape) {
  return shape.empty() ? "scalar" : absl::StrJoin(shape, "x");
}

std::string Printable(absl::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    if ((byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F) {
      absl::StrAppend(&out, absl::StrFormat("\\x%02x", byte));
    } else if (byte == 0xC2 && next >= 0x80 && next < 0xA0) {
      absl::StrAppend(&out, absl::StrFormat("\\x%02x", next));  // U+009B begins an escape, as ESC [ does
      ++i;
    } else {
      out.push_back(text[i]);
    }
  }
  return out;
}

size_t DisplayWidth(absl::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string Table::Render() const {
  std::vector<std::vector<std::string>> lines;
  std::vector<std::string> head;
  for (const std::string& name : header_) head.push_back(absl::AsciiStrToUpper(name));
  lines.push_back(std::move(head));
  for (const std::vector<std::string>& row : rows_) {
    std::vector<std::string> line;
    for (const std::string& cell : row) line.push_back(CellText(cell));
    line.resize(header_.size());
    lines.push_back(std::move(line));
  }
  std::vector<size_t> widths(header_.size(), 0);
  std::vector<bool> right(header_.size(), !rows_.empty());
  for (size_t i = 0; i < lines.size(); ++i) {
    for (size_t column = 0; column < header_.size(); ++column) {
      widths[column] = std::max(widths[column], DisplayWidth(lines[i][column]));
      if (i > 0 && !lines[i][column].empty() && !IsNumeric(lines[i][column])) right[column] = false;
    }
  }
  std::string out;
  for (const std::vector<std::string>& line : lines) {
    std::string text;
    for (size_t column = 0; column < line.size(); ++column) {
      const std::string padding(widths[column] - DisplayWidth(line[column]), ' ');
      if (column > 0) text += "  ";
      text += right[column] ? padding + line[column] : line[column] + padding;
    }
    absl::StrAppend(&out, absl::StripTrailingAsciiWhitespace(text), "\n");
  }
  return out;
}

std::string RenderFacts(const std::vector<std::pair<std::string, std::string>>& facts) {
  size_t width = 0;
  for (const auto& fact : facts) width = std::max(width, DisplayWidth(fact.first));
  std::string out;
  for (const auto& [name, value] : facts) {
    absl::StrAppend(&out, name, std::string(width - DisplayWidth(name) + 2, ' '), Printable(value), "\n");
  }
  return out;
}

}  // namespace trun::cli
