#include "server/device/emulator/exec/device_printf.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "absl/strings/ascii.h"

namespace trun::device {
namespace {

constexpr int kMaxField = 1000;

struct Conversion {
  std::string flags;
  int width = 0;
  int precision = -1;
  int longs = 0;   // "l" marks
  int shorts = 0;  // "h" marks
  char letter = 0;
};

template <typename T>
void Print(const Conversion& c, const char* length, T value, std::string* out) {
  std::string format = "%" + c.flags;
  if (c.width > 0) format += std::to_string(c.width);
  if (c.precision >= 0) format += "." + std::to_string(c.precision);
  format += length;
  format += c.letter;
  char buffer[2 * kMaxField + 512];
  const int n = snprintf(buffer, sizeof buffer, format.c_str(), value);
  if (n > 0) out->append(buffer, std::min(static_cast<size_t>(n), sizeof buffer - 1));
}

}  // namespace

void AppendFormatted(absl::string_view format,
                     const std::function<bool(uint64_t, size_t, uint64_t*)>& argument,
                     const std::function<bool(uint64_t, std::string*)>& string, std::string* out) {
  uint64_t offset = 0;
  const auto next = [&](size_t bytes, uint64_t* value) {
    offset = (offset + bytes - 1) / bytes * bytes;
    const bool ok = argument(offset, bytes, value);
    offset += bytes;
    return ok;
  };
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out->push_back(format[i]);
      continue;
    }
    const size_t begin = i++;
    Conversion c;
    const auto number = [&](int* into) {
      *into = 0;
      if (i < format.size() && format[i] == '*') {
        uint64_t value = 0;
        next(4, &value);
        *into = std::clamp(static_cast<int>(value), 0, kMaxField);
        ++i;
        return;
      }
      for (; i < format.size() && absl::ascii_isdigit(static_cast<unsigned char>(format[i])); ++i) {
        *into = std::min(*into * 10 + (format[i] - '0'), kMaxField);
      }
    };
    while (i < format.size() && format[i] != '\0' && strchr("-+ #0", format[i]) != nullptr) {
      if (c.flags.size() < 5) c.flags.push_back(format[i]);
      ++i;
    }
    number(&c.width);
    if (i < format.size() && format[i] == '.') {
      ++i;
      number(&c.precision);
    }
    while (i < format.size() &&
           (format[i] == 'l' || format[i] == 'h' || format[i] == 'z' || format[i] == 'j')) {
      c.longs += format[i] == 'h' ? 0 : 1;
      c.shorts += format[i] == 'h' ? 1 : 0;
      ++i;
    }
    c.letter = i < format.size() ? format[i] : '\0';
    uint64_t value = 0;
    bool ok = true;
    switch (c.letter) {
      case '%':
        out->push_back('%');
        break;
      case 'd':
      case 'i':
        ok = next(c.longs > 0 ? 8 : 4, &value);
        if (ok) {
          int64_t signed_value = c.longs > 0 ? static_cast<int64_t>(value) : static_cast<int32_t>(value);
          if (c.shorts == 1) signed_value = static_cast<int16_t>(value);
          if (c.shorts > 1) signed_value = static_cast<int8_t>(value);
          Print(c, "ll", static_cast<long long>(signed_value), out);
        }
        break;
      case 'u':
      case 'o':
      case 'x':
      case 'X':
        ok = next(c.longs > 0 ? 8 : 4, &value);
        if (ok) {
          if (c.shorts == 1) value &= 0xffff;
          if (c.shorts > 1) value &= 0xff;
          Print(c, "ll", static_cast<unsigned long long>(value), out);
        }
        break;
      case 'c':
        ok = next(4, &value);
        if (ok) Print(c, "", static_cast<int>(value), out);
        break;
      case 'f':
      case 'F':
      case 'e':
      case 'E':
      case 'g':
      case 'G':
      case 'a':
      case 'A':
        ok = next(8, &value);
        if (ok) {
          double number_value = 0;
          memcpy(&number_value, &value, sizeof number_value);
          Print(c, "", number_value, out);
        }
        break;
      case 'p':
        ok = next(8, &value);
        if (ok) {
          c.letter = 'x';
          c.flags += '#';
          Print(c, "ll", static_cast<unsigned long long>(value), out);
        }
        break;
      case 's': {
        std::string text;
        ok = next(8, &value) && string(value, &text);
        if (ok) Print(c, "", text.c_str(), out);
        break;
      }
      default:
        out->append(format.data() + begin, std::min(i + 1, format.size()) - begin);
        break;
    }
    if (!ok) out->append("(unreadable)");
    if (out->size() > kMaxPrinted) {
      out->resize(kMaxPrinted);
      return;
    }
  }
}

}  // namespace trun::device
