#include "server/device/emulator/exec/device_printf.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace trun::device {
namespace {

// Arguments as a kernel lays them out: each at a multiple of its size.
std::string Formatted(absl::string_view format, const std::vector<uint64_t>& words,
                      const std::string& text = "") {
  std::string out;
  AppendFormatted(
      format,
      [&](uint64_t offset, size_t bytes, uint64_t* value) {
        if (offset + bytes > words.size() * sizeof(uint64_t)) return false;
        *value = 0;
        std::memcpy(value, reinterpret_cast<const char*>(words.data()) + offset, bytes);
        return true;
      },
      [&](uint64_t, std::string* read) {
        *read = text;
        return !text.empty();
      },
      &out);
  return out;
}

TEST(DevicePrintfTest, WhatCannotBeReadIsPrintedAsThat) {
  EXPECT_EQ(Formatted("%d", {}), "(unreadable)");
  EXPECT_EQ(Formatted("%s", {1}), "(unreadable)");
}

TEST(DevicePrintfTest, AConversionThatIsNoneStandsAsItIs) { EXPECT_EQ(Formatted("100 %y", {1}), "100 %y"); }

TEST(DevicePrintfTest, IntegersHaveTheSignAndSizeThatTheirConversionNames) {
  const uint64_t word = 0xffff'ffff'8000'ff80;
  EXPECT_EQ(Formatted("%hhd", {word}), "-128");
  EXPECT_EQ(Formatted("%hd", {word}), "-128");
  EXPECT_EQ(Formatted("%d", {word}), "-2147418240");
  EXPECT_EQ(Formatted("%lld", {word}), "-2147418240");
  EXPECT_EQ(Formatted("%hhu %x", {word}), "128 ffffffff");
}

TEST(DevicePrintfTest, TextPercentSignsAndFloatsArePrintedAsCDoes) {
  uint64_t half = 0;
  const double value = 0.5;
  std::memcpy(&half, &value, sizeof half);
  EXPECT_EQ(Formatted("%s: %6.2f 100%%", {1, half}, "x"), "x:   0.50 100%");
}

}  // namespace
}  // namespace trun::device
