// The emulator against an H200: h200_answers.json holds kernels, operands and what the GPU answered
// (tests/ptx made and recorded them). Exact forms must give the same bits; the others say how far they may
// be.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/device/emulator/async/emulator_fixture.h"
#include "server/device/emulator/numerics/convert.h"
#include "server/device/emulator/numerics/float_format.h"

namespace trun::device {
namespace {

constexpr size_t kThreads = 256;

std::vector<uint8_t> FromHex(const std::string& hex) {
  std::vector<uint8_t> bytes(hex.size() / 2);
  const auto digit = [](char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  for (size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<uint8_t>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  return bytes;
}

// Floats of one of these types, one after the other in memory.
struct Element {
  size_t bytes;
  numerics::Type type;
};
bool FloatElement(const std::string& name, Element* element) {
  if (name == "f16" || name == "f16x2")
    *element = {2, numerics::Type::kF16};
  else if (name == "bf16" || name == "bf16x2")
    *element = {2, numerics::Type::kBf16};
  else if (name == "f32")
    *element = {4, numerics::Type::kF32};
  else if (name == "f64")
    *element = {8, numerics::Type::kF64};
  else
    return false;
  return true;
}

uint64_t Read(const uint8_t* bytes, size_t count) {
  uint64_t v = 0;
  std::memcpy(&v, bytes, count);
  return v;
}

// Distance in units in the last place, across zero too.
uint64_t UlpDistance(const Element& e, uint64_t a, uint64_t b) {
  const uint64_t sign = uint64_t{1} << (8 * e.bytes - 1);
  const auto key = [sign](uint64_t v) { return (v & sign) != 0 ? sign - (v & (sign - 1)) : sign + v; };
  const uint64_t x = key(a), y = key(b);
  return x > y ? x - y : y - x;
}

bool IsNear(const Element& e, const nlohmann::json& check, uint64_t mine, uint64_t theirs) {
  if (mine == theirs) return true;
  const double a = numerics::ToDouble(e.type, mine), b = numerics::ToDouble(e.type, theirs);
  if (std::isnan(a) || std::isnan(b)) return std::isnan(a) && std::isnan(b);
  if (static_cast<double>(UlpDistance(e, mine, theirs)) <= check.value("ulp", 0.0)) return true;
  return std::abs(a - b) <= check.value("absolute", 0.0) + check.value("relative", 0.0) * std::abs(b);
}

class HardwareAnswersTest : public EmulatorFixture {
 protected:
  HardwareAnswersTest() : EmulatorFixture(90) {}
};

TEST_F(HardwareAnswersTest, EveryFormAnswersAsTheGpuDid) {
  std::ifstream file("h200_answers.json");
  ASSERT_TRUE(file.is_open());
  const nlohmann::json document = nlohmann::json::parse(file);
  std::map<std::string, uint64_t> pools;
  std::map<std::string, std::vector<uint8_t>> bytes;
  for (const auto& [name, hex] : document["pools"].items()) {
    bytes[name] = FromHex(hex.get<std::string>());
    pools[name] = Allocate(bytes[name].size());
    std::memcpy(Host(pools[name]), bytes[name].data(), bytes[name].size());
  }
  const uint64_t out = Allocate(kThreads * 64);
  LaunchDimensions dimensions;
  dimensions.block = {kThreads, 1, 1};
  size_t wrong = 0;
  std::vector<std::string> refused;
  for (const nlohmann::json& c : document["cases"]) {
    const std::string name = c["name"];
    const std::vector<uint8_t> answers = FromHex(c["answers"].get<std::string>());
    std::vector<uint64_t> arguments;
    for (const nlohmann::json& input : c["inputs"]) arguments.push_back(pools.at(input));
    arguments.push_back(out);
    const LaunchOutcome outcome = RunText(c["ptx"], dimensions, arguments);
    if (!outcome.status.ok()) {
      refused.push_back(name + ": " + std::string(outcome.status.message()));
      continue;
    }
    const nlohmann::json& check = c["check"];
    Element element{std::min<size_t>(c["bytes"].get<size_t>(), 8), numerics::Type::kU32};
    const bool exact = !FloatElement(c["element"], &element) || check.empty();
    if (exact) element.bytes = std::min<size_t>(c["bytes"].get<size_t>(), 4);
    size_t differing = 0, first = 0;
    for (size_t at = 0; at < answers.size(); at += element.bytes) {
      const uint64_t mine = Read(Host(out) + at, element.bytes), theirs = Read(&answers[at], element.bytes);
      if (mine == theirs) continue;
      if (!exact) {
        if (check.contains("within")) {  // the bound holds for operands up to this magnitude
          const uint64_t operand = Read(&bytes[c["inputs"][0]][at], element.bytes);
          if (!(std::abs(numerics::ToDouble(element.type, operand)) <= check["within"].get<double>()))
            continue;
        }
        if (IsNear(element, check, mine, theirs)) continue;
      }
      if (differing++ == 0) first = at;
    }
    if (differing == 0) continue;
    ++wrong;
    std::string operands;
    for (const nlohmann::json& input : c["inputs"]) {
      const std::vector<uint8_t>& pool = bytes[input];
      const size_t size = pool.size() / kThreads, at = first / c["bytes"].get<size_t>() * size;
      if (size <= 8) operands += " " + testing::PrintToString(Read(&pool[at], size));
    }
    char text[400];
    snprintf(text, sizeof text, "%s: %zu of %zu differ; element %zu: %#llx, the GPU %#llx; operands",
             name.c_str(), differing, answers.size() / element.bytes, first / element.bytes,
             static_cast<unsigned long long>(Read(Host(out) + first, element.bytes)),
             static_cast<unsigned long long>(Read(&answers[first], element.bytes)));
    ADD_FAILURE() << text << operands;
  }
  EXPECT_THAT(refused, testing::IsEmpty());
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(document["cases"].size(), 1000u);
}

}  // namespace
}  // namespace trun::device
