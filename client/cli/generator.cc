#include "client/cli/generator.h"

#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/element.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

using Kind = Generator::Kind;

enum class Parameter { kNone, kSeed, kLow, kHigh };

struct Known {
  absl::string_view name;
  Kind kind;
  double low, high;
  std::array<absl::string_view, 3> names;
  std::array<Parameter, 3> parameters;
  int required;
};

constexpr Known kKnown[] = {
    {"zeros", Kind::kZeros, 0, 0, {}, {}, 0},
    {"ones", Kind::kOnes, 1, 0, {}, {}, 0},
    {"full", Kind::kFull, 0, 0, {"value"}, {Parameter::kLow}, 1},
    {"arange", Kind::kArange, 0, 1, {"start", "step"}, {Parameter::kLow, Parameter::kHigh}, 0},
    {"rand",
     Kind::kRand,
     0,
     1,
     {"seed", "lo", "hi"},
     {Parameter::kSeed, Parameter::kLow, Parameter::kHigh},
     0},
    {"randn",
     Kind::kRandn,
     0,
     1,
     {"seed", "mean", "std"},
     {Parameter::kSeed, Parameter::kLow, Parameter::kHigh},
     0},
    {"randint",
     Kind::kRandint,
     0,
     100,
     {"seed", "lo", "hi"},
     {Parameter::kSeed, Parameter::kLow, Parameter::kHigh},
     0},
    {"eye", Kind::kEye, 0, 0, {}, {}, 0},
    {"nan", Kind::kNan, 0, 0, {}, {}, 0},
};

constexpr absl::string_view kList =
    "generators: zeros, ones, full(value), arange(start, step), rand(seed, lo, hi), randn(seed, mean, std), "
    "randint(seed, lo, hi), eye, nan";

absl::Status Bad(absl::string_view what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat(what, "; ", kList));
}

absl::Status SetParameter(Parameter parameter, absl::string_view text, Generator* generator) {
  if (parameter == Parameter::kSeed) {
    if (absl::SimpleAtoi(text, &generator->seed)) return absl::OkStatus();
    return Bad(absl::StrCat("the seed '", text, "' is not a number from 0 to 2^64-1"));
  }
  double value;
  if (!absl::SimpleAtod(text, &value)) return Bad(absl::StrCat("'", text, "' is not a number"));
  (parameter == Parameter::kLow ? generator->low : generator->high) = value;
  return absl::OkStatus();
}

double Uniform(uint64_t seed, uint64_t index) {
  return static_cast<double>(RandomBits(seed, index) >> 11) * 0x1.0p-53;
}

std::string Repeat(const std::string& element, uint64_t count) {
  std::string out;
  out.reserve(element.size() * count);
  for (uint64_t i = 0; i < count; ++i) out += element;
  return out;
}

}  // namespace

uint64_t RandomBits(uint64_t seed, uint64_t index) {
  uint64_t z = seed * 0xD1342543DE82EF95u + (index + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

absl::StatusOr<Generator> ParseGenerator(absl::string_view text) {
  text = absl::StripAsciiWhitespace(text);
  absl::string_view name = text;
  absl::string_view inside;
  const size_t open = text.find('(');
  if (open != absl::string_view::npos) {
    if (text.back() != ')') return Bad(absl::StrCat("'", text, "' lacks its closing parenthesis"));
    name = absl::StripTrailingAsciiWhitespace(text.substr(0, open));
    inside = text.substr(open + 1, text.size() - open - 2);
  }
  const Known* known = nullptr;
  for (const Known& candidate : kKnown) {
    if (candidate.name == name) known = &candidate;
  }
  if (known == nullptr) return Bad(absl::StrCat("'", name, "' is not a generator"));
  Generator generator;
  generator.kind = known->kind;
  generator.low = known->low;
  generator.high = known->high;
  std::array<bool, 3> given{};
  size_t position = 0;
  for (absl::string_view part : absl::StrSplit(inside, ',', absl::SkipWhitespace())) {
    part = absl::StripAsciiWhitespace(part);
    size_t which = position++;
    const size_t equals = part.find('=');
    if (equals != absl::string_view::npos) {
      const absl::string_view key = absl::StripAsciiWhitespace(part.substr(0, equals));
      part = absl::StripAsciiWhitespace(part.substr(equals + 1));
      which = 0;
      while (which < 3 && (known->parameters[which] == Parameter::kNone || known->names[which] != key))
        ++which;
      if (which == 3) return Bad(absl::StrCat(name, " has no parameter '", key, "'"));
    }
    if (which >= 3 || known->parameters[which] == Parameter::kNone) {
      return Bad(absl::StrCat(name, " takes fewer parameters than '", text, "' gives"));
    }
    if (given[which]) return Bad(absl::StrCat("'", text, "' gives ", known->names[which], " twice"));
    given[which] = true;
    TRUN_RETURN_IF_ERROR(SetParameter(known->parameters[which], part, &generator));
  }
  for (int i = 0; i < known->required; ++i) {
    if (!given[static_cast<size_t>(i)])
      return Bad(absl::StrCat(name, " needs its ", known->names[static_cast<size_t>(i)]));
  }
  if (generator.kind == Kind::kRandint &&
      (generator.low != std::floor(generator.low) || generator.high != std::floor(generator.high) ||
       !(generator.low < generator.high) || std::fabs(generator.low) > 0x1p53 ||
       std::fabs(generator.high) > 0x1p53)) {
    return Bad("randint needs whole numbers lo < hi");
  }
  return generator;
}

absl::StatusOr<std::string> Generate(const Generator& generator, ScalarType dtype,
                                     const std::vector<uint64_t>& shape) {
  TRUN_ASSIGN_OR_RETURN(const uint64_t count, ElementCount(shape));
  if (generator.kind == Kind::kZeros) return std::string(count * ScalarTypeBytes(dtype), '\0');
  if (generator.kind == Kind::kNan && !IsFloat(dtype)) {
    return InvalidArgument(Reason::kArgument, absl::StrCat(ScalarTypeName(dtype), " has no NaN"));
  }
  if (generator.kind == Kind::kEye && shape.size() != 2) {
    return InvalidArgument(Reason::kArgument, "eye fills a matrix: give two dimensions");
  }
  std::string out;
  std::string element;
  switch (generator.kind) {
    case Kind::kOnes:
      AppendElement(dtype, 1, &element);
      return Repeat(element, count);
    case Kind::kFull:
      AppendElement(dtype, generator.low, &element);
      return Repeat(element, count);
    case Kind::kNan:
      AppendElement(dtype, std::numeric_limits<double>::quiet_NaN(), &element);
      return Repeat(element, count);
    default:
      break;
  }
  out.reserve(count * ScalarTypeBytes(dtype));
  double second = 0;  // of a Box-Muller pair
  for (uint64_t i = 0; i < count; ++i) {
    switch (generator.kind) {
      case Kind::kArange:
        AppendElement(dtype, generator.low + generator.high * static_cast<double>(i), &out);
        break;
      case Kind::kRand:
        AppendElement(dtype, generator.low + (generator.high - generator.low) * Uniform(generator.seed, i),
                      &out);
        break;
      case Kind::kRandint: {
        const int64_t low = static_cast<int64_t>(generator.low);
        const uint64_t span = static_cast<uint64_t>(static_cast<int64_t>(generator.high) - low);
        AppendInteger(dtype, low + static_cast<int64_t>(RandomBits(generator.seed, i) % span), &out);
        break;
      }
      case Kind::kRandn:
        if (i % 2 == 0) {
          const double radius = std::sqrt(-2.0 * std::log(1.0 - Uniform(generator.seed, i)));
          const double angle = 6.283185307179586 * Uniform(generator.seed, i + 1);
          second = radius * std::sin(angle);
          AppendElement(dtype, generator.low + generator.high * (radius * std::cos(angle)), &out);
        } else {
          AppendElement(dtype, generator.low + generator.high * second, &out);
        }
        break;
      default:
        AppendElement(dtype, i / shape[1] == i % shape[1] ? 1 : 0, &out);
        break;
    }
  }
  return out;
}

}  // namespace trun::cli
