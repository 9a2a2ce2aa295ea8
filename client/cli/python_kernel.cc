#include "client/cli/python_kernel.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "client/cli/expression.h"
#include "client/cli/npy.h"
#include "common/base/status.h"
#include "nlohmann/json.hpp"

namespace trun::cli {
namespace {

using nlohmann::json;

absl::Status Bad(absl::string_view text, absl::string_view what) {
  return InvalidArgument(Reason::kArgument, absl::StrCat("'", text, "': ", what));
}

// Cuts a parameter list at its commas; strings, comments and brackets are skipped. Ends at the bracket that
// closes it. Nothing where it does not end.
std::optional<std::vector<std::string>> SplitParameters(absl::string_view text) {
  std::vector<std::string> parts(1);
  int depth = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '#') {
      while (i + 1 < text.size() && text[i + 1] != '\n') ++i;
      continue;
    }
    if (c == '"' || c == '\'') {
      const size_t start = i++;
      while (i < text.size() && text[i] != c) i += text[i] == '\\' ? 2 : 1;
      absl::StrAppend(&parts.back(), text.substr(start, i + 1 - start));
      continue;
    }
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') {
      if (depth-- == 0) return parts;
    }
    if (c == ',' && depth == 0) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return std::nullopt;
}

// A compile-time value as Python writes it; names of the language become symbols.
absl::StatusOr<json> ConstexprValue(absl::string_view text, const Variables& variables) {
  const std::string value(absl::StripAsciiWhitespace(text));
  if (value == "None") return json(nullptr);
  if (value == "True" || value == "true") return json(true);
  if (value == "False" || value == "false") return json(false);
  for (const auto& [alias, name] : {std::pair<const char*, const char*>{"tl.", "triton.language."},
                                    {"gl.", "triton.experimental.gluon.language."},
                                    {"triton.", "triton."},
                                    {"trun.", "trun."}}) {
    if (absl::StartsWith(value, alias)) {
      return json{{"symbol", absl::StrCat(name, value.substr(std::string(alias).size()))}};
    }
  }
  if (value.size() >= 2 && (value[0] == '"' || value[0] == '\'') && value.back() == value[0]) {
    return json(value.substr(1, value.size() - 2));
  }
  const absl::StatusOr<int64_t> whole = Evaluate(value, variables);
  if (whole.ok()) return json(*whole);
  double number;
  if (absl::SimpleAtod(value, &number)) {
    std::string hex(64, '\0');
    hex.resize(static_cast<size_t>(snprintf(hex.data(), hex.size(), "%a", number)));
    return json{{"float", hex}};
  }
  if (IsName(value)) return json(value);  // a word: what a shell leaves of "word"
  return Bad(value, "no value for a constexpr: 64, True, None, \"text\" and tl.float32 are");
}

json Constexpr(json value) { return {{"kind", "constexpr"}, {"value", std::move(value)}}; }

json Whole(int64_t value) {
  if (value == 1) return Constexpr(1);
  const bool fits =
      value >= std::numeric_limits<int32_t>::min() && value <= std::numeric_limits<int32_t>::max();
  json made = {{"kind", "scalar"}, {"dtype", fits ? "i32" : "i64"}};
  if (value % 16 == 0) made["divisible"] = true;
  return made;
}

std::string MakeBundle(const PythonKernel& kernel, const json& arguments) {
  return json{{"format", 1},
              {"text", {{"file", kernel.file}, {"source", kernel.text}, {"function", kernel.function}}},
              {"arguments", arguments}}
      .dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string ListParameters(const PythonKernel& kernel) {
  return absl::StrCat(kernel.function, "(",
                      absl::StrJoin(kernel.parameters, ", ",
                                    [](std::string* out, const PythonParameter& parameter) {
                                      absl::StrAppend(out, parameter.name,
                                                      parameter.is_constexpr ? ": constexpr" : "");
                                    }),
                      ")");
}

absl::StatusOr<ScalarType> TensorType(const ArgSpec& spec) {
  if (const auto* tensor = std::get_if<GeneratedTensor>(&spec.value)) return tensor->dtype;
  const FileTensor& file = std::get<FileTensor>(spec.value);
  if (file.dtype != ScalarType::kUnspecified) return file.dtype;
  TRUN_ASSIGN_OR_RETURN(const NpyArray array, ReadNpy(file.path));
  if (array.dtype == ScalarType::kUnspecified) {
    return Bad(spec.text, "the file's elements have no type of their own: give one, as in bf16@x.npy");
  }
  return array.dtype;
}

}  // namespace

const PythonParameter* PythonKernel::Find(absl::string_view name) const {
  size_t position = 0;
  if (absl::SimpleAtoi(name, &position)) {
    return position < parameters.size() ? &parameters[position] : nullptr;
  }
  const auto found = std::find_if(parameters.begin(), parameters.end(),
                                  [&](const PythonParameter& parameter) { return parameter.name == name; });
  return found == parameters.end() ? nullptr : &*found;
}

std::optional<std::pair<std::string, std::string>> SplitPythonKernel(absl::string_view path) {
  const size_t colon = path.rfind(':');
  if (colon == absl::string_view::npos || !absl::EndsWith(path.substr(0, colon), ".py") ||
      !IsName(path.substr(colon + 1))) {
    return std::nullopt;
  }
  return std::pair(std::string(path.substr(0, colon)), std::string(path.substr(colon + 1)));
}

absl::StatusOr<PythonKernel> ParsePythonKernel(const std::string& file, const std::string& function,
                                               std::string text) {
  PythonKernel kernel{file, std::move(text), function, false, {}};
  size_t at = 0;
  size_t header = std::string::npos;
  std::vector<std::string> decorators;
  for (absl::string_view line : absl::StrSplit(kernel.text, '\n')) {
    if (absl::StartsWith(line, "@")) decorators.emplace_back(line);
    absl::string_view rest = line;
    if (absl::ConsumePrefix(&rest, "def ")) {
      rest = absl::StripLeadingAsciiWhitespace(rest);
      if (absl::ConsumePrefix(&rest, function) &&
          absl::StartsWith(absl::StripLeadingAsciiWhitespace(rest), "(")) {
        header = kernel.text.find('(', at) + 1;
        break;
      }
      decorators.clear();
    }
    at += line.size() + 1;
  }
  if (header == std::string::npos) {
    return InvalidArgument(Reason::kInvalidIr,
                           absl::StrCat("'", file, "' has no function '", function, "' at its top level"));
  }
  for (const std::string& decorator : decorators) {
    kernel.is_gluon = kernel.is_gluon || absl::StrContains(decorator, "gluon.jit");
  }
  const auto parts = SplitParameters(absl::string_view(kernel.text).substr(header));
  if (!parts) {
    return InvalidArgument(Reason::kInvalidIr,
                           absl::StrCat("the parameters of '", function, "' in '", file, "' do not end"));
  }
  for (const std::string& part : *parts) {
    PythonParameter parameter;
    const size_t equals = part.find('=');
    const size_t colon = part.find(':');
    parameter.name = std::string(absl::StripAsciiWhitespace(part.substr(0, std::min(equals, colon))));
    if (parameter.name.empty() || parameter.name == "*" || parameter.name == "/") continue;
    if (!IsName(parameter.name)) {
      return InvalidArgument(Reason::kInvalidIr, absl::StrCat("'", file, "': the parameter '", parameter.name,
                                                              "' of '", function, "' has no plain name"));
    }
    if (colon < equals) {
      parameter.is_constexpr = absl::StrContains(part.substr(colon, equals - colon), "constexpr");
    }
    if (equals != std::string::npos) {
      parameter.default_text = std::string(absl::StripAsciiWhitespace(part.substr(equals + 1)));
    }
    kernel.parameters.push_back(std::move(parameter));
  }
  return kernel;
}

absl::StatusOr<PythonArguments> SpecialiseArguments(const PythonKernel& kernel,
                                                    const std::vector<std::string>& arguments,
                                                    const std::vector<std::string>& outputs,
                                                    const Variables& given) {
  // What was written for each parameter; a default counts as written.
  std::map<std::string, std::pair<std::string, bool>> written;  // name → value, whether it is an output
  for (const bool output : {false, true}) {
    for (const std::string& text : output ? outputs : arguments) {
      const size_t equals = text.find('=');
      const PythonParameter* parameter =
          equals == std::string::npos ? nullptr
                                      : kernel.Find(absl::StripAsciiWhitespace(text.substr(0, equals)));
      if (parameter == nullptr) {
        return Bad(text, absl::StrCat("the parameters are ", ListParameters(kernel)));
      }
      if (!written.emplace(parameter->name, std::pair(text.substr(equals + 1), output)).second) {
        return Bad(text, "this parameter is given twice");
      }
    }
  }
  std::vector<std::string> missing;
  for (const PythonParameter& parameter : kernel.parameters) {
    if (written.count(parameter.name) != 0) continue;
    if (parameter.default_text.empty()) {
      missing.push_back(parameter.name);
    } else {
      written[parameter.name] = {parameter.default_text, false};
    }
  }
  if (!missing.empty()) {
    return InvalidArgument(Reason::kArgument, absl::StrCat(ListParameters(kernel), " lacks --arg for ",
                                                           absl::StrJoin(missing, ", ")));
  }
  PythonArguments made;
  std::vector<ArgSpec> specs;
  std::vector<ArgumentInfo> infos;
  std::vector<size_t> bound;
  for (const PythonParameter& parameter : kernel.parameters) {
    if (parameter.is_constexpr) continue;
    const auto& [value, output] = written[parameter.name];
    TRUN_ASSIGN_OR_RETURN(
        ArgSpec spec,
        ParseArgSpec(absl::StrCat(parameter.name, "=", value == "None" ? "null" : value), output));
    bound.push_back(specs.size());
    specs.push_back(std::move(spec));
    infos.emplace_back();
    infos.back().name = parameter.name;
  }
  // Constexprs that are whole numbers may be named by expressions, as other whole numbers are.
  Variables known = given;
  json described = json::object();
  for (const PythonParameter& parameter : kernel.parameters) {
    if (!parameter.is_constexpr) continue;
    TRUN_ASSIGN_OR_RETURN(json value, ConstexprValue(written[parameter.name].first, known));
    if (value.is_number_integer())
      made.constants[parameter.name] = known[parameter.name] = value.get<int64_t>();
    described[parameter.name] = Constexpr(std::move(value));
  }
  TRUN_ASSIGN_OR_RETURN(const Variables variables, ResolveVariables(specs, bound, infos, known));
  for (ArgSpec& spec : specs) {
    json argument;
    if (spec.IsTensor()) {
      TRUN_ASSIGN_OR_RETURN(const ScalarType type, TensorType(spec));
      argument = {{"kind", "pointer"}, {"dtype", std::string(ScalarTypeName(type))}, {"divisible", true}};
    } else if (std::holds_alternative<NullPointer>(spec.value)) {
      argument = Constexpr(nullptr);
    } else if (std::holds_alternative<FloatScalar>(spec.value)) {
      argument = {{"kind", "scalar"}, {"dtype", "f32"}};
    } else {
      const auto value = variables.find(spec.key);
      if (value == variables.end()) return Bad(spec.text, "no whole number");
      argument = Whole(value->second);
      if (argument["kind"] == "constexpr") made.constants[spec.key] = value->second;
    }
    const bool is_runtime = argument["kind"] != "constexpr";
    described[spec.key] = std::move(argument);
    if (!is_runtime) continue;
    made.names.push_back(spec.key);
    made.specs.push_back(std::move(spec));
  }
  made.bundle = MakeBundle(kernel, described);
  return made;
}

absl::StatusOr<std::string> BundleOfSignature(const PythonKernel& kernel, absl::string_view signature) {
  const std::vector<std::string> parts = SplitExpressions(signature);
  if (parts.size() != kernel.parameters.size()) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("--signature has ", parts.size(), " entries for ",
                                                           ListParameters(kernel)));
  }
  json described = json::object();
  for (size_t i = 0; i < parts.size(); ++i) {
    const PythonParameter& parameter = kernel.parameters[i];
    const std::string text(absl::StripAsciiWhitespace(parts[i]));
    absl::string_view type = text;
    const bool is_divisible = absl::ConsumeSuffix(&type, ":16");
    const bool is_pointer = absl::ConsumePrefix(&type, "*");
    const absl::StatusOr<ScalarType> dtype = ScalarTypeFromName(type);
    if (parameter.is_constexpr || !dtype.ok()) {
      if (is_pointer) return dtype.status();
      TRUN_ASSIGN_OR_RETURN(json value, ConstexprValue(text, {}));
      described[parameter.name] = Constexpr(std::move(value));
      continue;
    }
    json argument = {{"kind", is_pointer ? "pointer" : "scalar"},
                     {"dtype", std::string(ScalarTypeName(*dtype))}};
    if (is_divisible) argument["divisible"] = true;
    described[parameter.name] = std::move(argument);
  }
  return MakeBundle(kernel, described);
}

}  // namespace trun::cli
