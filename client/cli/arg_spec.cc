#include "client/cli/arg_spec.h"

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "common/base/status.h"

namespace trun::cli {
namespace {

absl::Status Bad(absl::string_view text, absl::string_view what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat("'", text, "': ", what));
}

bool IsPosition(absl::string_view key) {
  return !key.empty() && key.size() <= 4 && key.find_first_not_of("0123456789") == absl::string_view::npos;
}

absl::StatusOr<ScalarType> DType(absl::string_view text, absl::string_view name) {
  absl::StatusOr<ScalarType> dtype = ScalarTypeFromName(name);
  if (!dtype.ok()) return Bad(text, dtype.status().message());
  return *dtype;
}

absl::StatusOr<GeneratedTensor> ParseTensor(absl::string_view text, absl::string_view value) {
  GeneratedTensor tensor;
  const size_t open = value.find('[');
  TRUN_ASSIGN_OR_RETURN(tensor.dtype, DType(text, absl::StripAsciiWhitespace(value.substr(0, open))));
  const size_t close = value.find(']', open);
  if (close == absl::string_view::npos)
    return Bad(text, "']' is missing after the shape, as in f16[512,256]");
  const absl::string_view inside = absl::StripAsciiWhitespace(value.substr(open + 1, close - open - 1));
  if (!inside.empty()) tensor.dimensions = SplitExpressions(inside);
  for (const std::string& dimension : tensor.dimensions) {
    if (dimension.empty()) return Bad(text, "a dimension is missing between commas");
  }
  absl::string_view rest = absl::StripAsciiWhitespace(value.substr(close + 1));
  if (rest.empty()) return tensor;
  if (rest[0] != ':')
    return Bad(text, "only ':generator' may follow the shape, as in f16[512,256]:randn(seed=1)");
  rest.remove_prefix(1);
  absl::StatusOr<Generator> generator = ParseGenerator(rest);
  if (!generator.ok()) return Bad(text, generator.status().message());
  tensor.generator = *generator;
  tensor.generated = true;
  return tensor;
}

std::optional<double> ParseFloat(absl::string_view value) {
  double number;
  if (!absl::SimpleAtod(value, &number)) return std::nullopt;
  return number;
}

absl::string_view KindName(const ArgumentInfo& argument) {
  switch (argument.kind) {
    case ArgumentInfo::Kind::kPointer:
      return "pointer";
    case ArgumentInfo::Kind::kTensorDescriptor:
      return "tensor descriptor";
    default:
      return "scalar";
  }
}

bool HasNames(const std::vector<ArgumentInfo>& arguments) {
  for (const ArgumentInfo& argument : arguments) {
    if (!argument.name.empty()) return true;
  }
  return false;
}

std::string ListArguments(const std::vector<ArgumentInfo>& arguments) {
  std::vector<std::string> all;
  for (size_t i = 0; i < arguments.size(); ++i) all.push_back(DescribeArgument(i, arguments));
  return all.empty() ? "the kernel has no arguments"
                     : absl::StrCat("the kernel's arguments are ", absl::StrJoin(all, ", "));
}

}  // namespace

absl::StatusOr<ArgSpec> ParseArgSpec(absl::string_view text, bool output) {
  ArgSpec spec;
  spec.text = std::string(text);
  spec.output = output;
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos) {
    return Bad(text, "NAME=VALUE is needed, as in a=f16[512,256]:randn(seed=1), n=512 or 0=@x.npy");
  }
  spec.key = std::string(absl::StripAsciiWhitespace(text.substr(0, equals)));
  if (!IsPosition(spec.key) && !IsName(spec.key)) {
    return Bad(text, absl::StrCat("'", spec.key, "' is neither a name nor a position"));
  }
  const absl::string_view value = absl::StripAsciiWhitespace(text.substr(equals + 1));
  if (value.empty()) return Bad(text, "the value is missing");
  const size_t at = value.find('@');
  if (at != absl::string_view::npos) {
    FileTensor tensor;
    tensor.path = std::string(value.substr(at + 1));
    if (tensor.path.empty()) return Bad(text, "the file's name is missing after '@'");
    if (at > 0) {
      TRUN_ASSIGN_OR_RETURN(tensor.dtype, DType(text, absl::StripAsciiWhitespace(value.substr(0, at))));
    }
    spec.value = tensor;
    return spec;
  }
  if (value.find('[') != absl::string_view::npos) {
    TRUN_ASSIGN_OR_RETURN(spec.value, ParseTensor(text, value));
    return spec;
  }
  if (output) return Bad(text, "an output is a tensor, as in c=f32[512,256]");
  const std::string lower = absl::AsciiStrToLower(value);
  if (lower == "null" || lower == "none") {
    spec.value = NullPointer{};
  } else if (lower == "true" || lower == "false") {
    spec.value = IntegerScalar{lower == "true" ? "1" : "0"};
  } else if (lower == "nan") {
    spec.value = FloatScalar{std::numeric_limits<double>::quiet_NaN()};
  } else if (int64_t integer; absl::SimpleAtoi(value, &integer)) {
    spec.value = IntegerScalar{std::string(value)};
  } else if (const std::optional<double> number = ParseFloat(value)) {
    spec.value = FloatScalar{*number};
  } else {
    spec.value = IntegerScalar{std::string(value)};
  }
  return spec;
}

absl::Status AddIm2col(absl::string_view text, std::vector<ArgSpec>* specs) {
  constexpr absl::string_view kExample = "NAME=LOWER:UPPER[:STRIDES] is needed, as in x=-1,-1:-1,-1:1,2,2,1";
  const size_t equals = text.find('=');
  if (equals == absl::string_view::npos) return Bad(text, kExample);
  const absl::string_view key = absl::StripAsciiWhitespace(text.substr(0, equals));
  const std::vector<absl::string_view> parts = absl::StrSplit(text.substr(equals + 1), ':');
  if (parts.size() < 2 || parts.size() > 3) return Bad(text, kExample);
  Im2col box;
  for (const absl::string_view number : absl::StrSplit(parts[0], ',')) {
    if (!absl::SimpleAtoi(number, &box.lower_corner.emplace_back())) return Bad(text, kExample);
  }
  for (const absl::string_view number : absl::StrSplit(parts[1], ',')) {
    if (!absl::SimpleAtoi(number, &box.upper_corner.emplace_back())) return Bad(text, kExample);
  }
  if (parts.size() == 3) {
    for (const absl::string_view number : absl::StrSplit(parts[2], ',')) {
      if (!absl::SimpleAtoi(number, &box.element_strides.emplace_back())) return Bad(text, kExample);
    }
  }
  for (ArgSpec& spec : *specs) {
    if (spec.key != key) continue;
    spec.im2col = std::move(box);
    return absl::OkStatus();
  }
  return Bad(text, absl::StrCat("no --arg or --out is called '", key, "'"));
}

std::string DescribeArgument(size_t position, const std::vector<ArgumentInfo>& arguments) {
  const ArgumentInfo& argument = arguments[position];
  std::string type;
  if (argument.kind == ArgumentInfo::Kind::kPointer) {
    type = argument.dtype == ScalarType::kUnspecified
               ? "pointer"
               : absl::StrCat("pointer to ", ScalarTypeName(argument.dtype));
  } else if (argument.kind == ArgumentInfo::Kind::kTensorDescriptor) {
    type = absl::StrCat("tensor descriptor of ", argument.descriptor_type);
  } else {
    type = argument.dtype == ScalarType::kUnspecified ? absl::StrCat(argument.bytes, "-byte scalar")
                                                      : std::string(ScalarTypeName(argument.dtype));
  }
  const std::string name = argument.name.empty() ? "" : absl::StrCat(" '", argument.name, "'");
  return absl::StrCat(position, name, " (", type, ")");
}

absl::StatusOr<size_t> FindArgument(absl::string_view key, const std::vector<ArgumentInfo>& arguments) {
  size_t position = 0;
  if (IsPosition(key) && absl::SimpleAtoi(key, &position)) {
    if (position < arguments.size()) return position;
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("there is no argument ", key, ": ", ListArguments(arguments)),
                           {{"argument", std::string(key)}});
  }
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].name == key) return i;
  }
  if (!HasNames(arguments)) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("this kernel's file has no argument names, so '", key,
                                        "' cannot be found; use positions: ", ListArguments(arguments)),
                           {{"argument", std::string(key)}});
  }
  return InvalidArgument(Reason::kArgument,
                         absl::StrCat("there is no argument '", key, "': ", ListArguments(arguments)),
                         {{"argument", std::string(key)}});
}

absl::StatusOr<std::vector<size_t>> BindArguments(const std::vector<ArgSpec>& specs,
                                                  const std::vector<ArgumentInfo>& arguments) {
  std::vector<std::optional<size_t>> bound(arguments.size());
  for (size_t i = 0; i < specs.size(); ++i) {
    const ArgSpec& spec = specs[i];
    TRUN_ASSIGN_OR_RETURN(const size_t position, FindArgument(spec.key, arguments));
    if (bound[position]) {
      return InvalidArgument(
          Reason::kArgument,
          absl::StrCat("argument ", DescribeArgument(position, arguments), " is given twice: '",
                       specs[*bound[position]].text, "' and '", spec.text, "'"),
          {{"argument", absl::StrCat(position)}});
    }
    const ArgumentInfo& argument = arguments[position];
    const bool scalar = argument.kind == ArgumentInfo::Kind::kScalar;
    const bool null_for_pointer =
        std::holds_alternative<NullPointer>(spec.value) && argument.kind == ArgumentInfo::Kind::kPointer;
    if (scalar ? (spec.IsTensor() || std::holds_alternative<NullPointer>(spec.value))
               : (!spec.IsTensor() && !null_for_pointer)) {
      return InvalidArgument(
          Reason::kArgument,
          absl::StrCat("argument ", DescribeArgument(position, arguments), " is a ", KindName(argument),
                       ", and '", spec.text, "' is ", spec.IsTensor() ? "a tensor" : "none"),
          {{"argument", absl::StrCat(position)}});
    }
    bound[position] = i;
  }
  std::vector<std::string> missing;
  std::vector<size_t> result;
  for (size_t i = 0; i < bound.size(); ++i) {
    if (!bound[i]) missing.push_back(DescribeArgument(i, arguments));
    result.push_back(bound[i].value_or(0));
  }
  if (!missing.empty()) {
    return InvalidArgument(
        Reason::kArgument,
        absl::StrCat(missing.size() == 1 ? "an argument is missing: " : "arguments are missing: ",
                     absl::StrJoin(missing, ", "), "; give --arg or --out for each"));
  }
  return result;
}

absl::StatusOr<Variables> ResolveVariables(const std::vector<ArgSpec>& specs,
                                           const std::vector<size_t>& bound,
                                           const std::vector<ArgumentInfo>& arguments,
                                           const Variables& given) {
  Variables variables = given;
  std::vector<bool> done(bound.size(), false);
  for (;;) {
    bool progress = false;
    absl::Status unresolved;
    for (size_t i = 0; i < bound.size(); ++i) {
      const IntegerScalar* scalar = std::get_if<IntegerScalar>(&specs[bound[i]].value);
      if (done[i] || scalar == nullptr) continue;
      absl::StatusOr<int64_t> value = Evaluate(scalar->expression, variables);
      if (absl::IsNotFound(value.status())) {
        unresolved = value.status();
        continue;
      }
      if (!value.ok()) return Bad(specs[bound[i]].text, value.status().message());
      variables[absl::StrCat("arg", i)] = *value;
      if (!arguments[i].name.empty()) variables[arguments[i].name] = *value;
      done[i] = progress = true;
    }
    if (unresolved.ok()) return variables;
    if (!progress) {
      std::vector<std::string> names;
      for (const auto& variable : variables) names.push_back(variable.first);
      return InvalidArgument(
          Reason::kArgument,
          absl::StrCat(unresolved.message(),
                       names.empty() ? "" : absl::StrCat("; known are ", absl::StrJoin(names, ", "))));
    }
  }
}

}  // namespace trun::cli
