// Loads and runs PTX on the emulator for tests in Python: one JSON request a line on stdin, one JSON answer a
// line on stdout.
//
//   {"op": "load", "arch": 90, "ptx": FILE}
//     → {"entries": n, "unsupported": [{"line", "instruction", "message"}]}: all of them, not only the first,
//       or {"error", "reason"} for what is wrong otherwise
//   {"op": "run", "arch": 90, "ptx": FILE, "kernel": NAME, "grid": [x, y, z], "block": [x, y, z],
//    "cluster": [x, y, z], "shared": bytes, "seconds": deadline, "threads": host threads,
//    "buffers": [{"file": FILE, "bytes": n, "input": true}],
//    "parameters": [{"buffer": i, "offset": bytes} | {"hex": "00ff"}]}
//     → {"printed", "instructions", "seconds"}, with the buffers that are no "input" written back to their
//       files, or {"error", "reason"}
//
// Parameters are laid out as the kernel declares them; a "hex" one has to be as long as its parameter.
#include <cstdint>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "nlohmann/json.hpp"
#include "server/device/emulator/emulator_device.h"
#include "server/device/emulator/test_launcher.h"

namespace trun::device {
namespace {

using nlohmann::json;

json ErrorOf(const absl::Status& status) {
  return {{"error", std::string(status.message())}, {"reason", ReasonName(GetReason(status))}};
}

absl::StatusOr<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return NotFound(Reason::kArgument, "no file " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::array<uint32_t, 3> Triple(const json& request, const char* key) {
  std::array<uint32_t, 3> triple = {1, 1, 1};
  if (auto it = request.find(key); it != request.end()) {
    for (size_t i = 0; i < 3; ++i) triple[i] = it->at(i);
  }
  return triple;
}

// Replaces what stands at `line` by spaces, so that the rest of the module is looked at too.
void BlankLine(std::string* text, size_t line) {
  size_t at = 0;
  for (size_t i = 1; i < line && at != std::string::npos; ++i) {
    at = text->find('\n', at);
    if (at != std::string::npos) ++at;
  }
  for (; at != std::string::npos && at < text->size() && (*text)[at] != '\n'; ++at) (*text)[at] = ' ';
}

json Load(const json& request) {
  auto text = ReadFile(request.at("ptx"));
  if (!text.ok()) return ErrorOf(text.status());
  EmulatorOptions options;
  options.arch = request.at("arch");
  options.threads = 1;
  auto device = CreateEmulatorDevice(options);
  if (!device.ok()) return ErrorOf(device.status());
  json unsupported = json::array();
  std::set<std::string> seen;
  while (true) {
    const auto module = (*device)->LoadModule(*text);
    if (module.ok()) break;
    auto details = GetDetails(module.status());
    const std::string line = details["line"];
    if (GetReason(module.status()) != Reason::kUnsupportedInstruction || line.empty() ||
        !seen.insert(line).second) {
      json error = ErrorOf(module.status());
      error["unsupported"] = unsupported;
      return error;
    }
    unsupported.push_back({{"line", std::stoul(line)},
                           {"instruction", details["instruction"]},
                           {"message", std::string(module.status().message())}});
    BlankLine(&*text, std::stoul(line));
  }
  return {{"unsupported", unsupported}};
}

int Digit(char c) { return c <= '9' ? c - '0' : (c | 32) - 'a' + 10; }

json Run(const json& request) {
  auto text = ReadFile(request.at("ptx"));
  if (!text.ok()) return ErrorOf(text.status());
  size_t total = size_t{1} << 20;
  for (const json& buffer : request.at("buffers")) total += buffer.at("bytes").get<size_t>() + 4096;
  total = (total + (size_t{1} << 21) - 1) >> 21 << 21;
  TestLauncher launcher(request.at("arch"), request.value("threads", 0), total);
  const auto module = launcher.device().LoadModule(*text);
  if (!module.ok()) return ErrorOf(module.status());
  const auto kernel = (*module)->GetKernel(request.value("kernel", ""));
  if (!kernel.ok()) return ErrorOf(kernel.status());
  std::vector<TestTensor> tensors;
  for (const json& buffer : request.at("buffers")) {
    tensors.push_back(launcher.Allocate(buffer.at("bytes")));
    const auto bytes = ReadFile(buffer.at("file"));
    if (!bytes.ok()) return ErrorOf(bytes.status());
    if (bytes->size() != tensors.back().bytes) return {{"error", "a buffer's file is not as long as said"}};
    std::memcpy(tensors.back().host, bytes->data(), bytes->size());
  }
  const KernelAttributes& attributes = (*kernel)->attributes();
  const json& given = request.at("parameters");
  if (given.size() != attributes.parameters.size()) {
    return {{"error", "the kernel has " + std::to_string(attributes.parameters.size()) +
                          " parameters, given " + std::to_string(given.size())}};
  }
  std::vector<std::byte> parameters(attributes.parameter_bytes);
  for (size_t i = 0; i < given.size(); ++i) {
    const ParameterLayout& place = attributes.parameters[i];
    std::vector<uint8_t> value;
    if (given[i].contains("buffer")) {
      const uint64_t address =
          tensors.at(given[i]["buffer"].get<size_t>()).address + given[i].value("offset", uint64_t{0});
      value.resize(sizeof address);
      std::memcpy(value.data(), &address, sizeof address);
    } else {
      const std::string hex = given[i].at("hex");
      for (size_t k = 0; k + 1 < hex.size(); k += 2) {
        value.push_back(static_cast<uint8_t>(Digit(hex[k]) << 4 | Digit(hex[k + 1])));
      }
    }
    if (value.size() != place.bytes) {
      return {{"error", "parameter " + std::to_string(i) + " has " + std::to_string(place.bytes) +
                            " bytes, given " + std::to_string(value.size())}};
    }
    std::memcpy(parameters.data() + place.offset, value.data(), value.size());
  }
  LaunchRequest launch;
  launch.kernel = *kernel;
  launch.dimensions.grid = Triple(request, "grid");
  launch.dimensions.block = Triple(request, "block");
  launch.dimensions.cluster = Triple(request, "cluster");
  launch.dimensions.dynamic_shared_bytes = request.value("shared", 0u);
  launch.parameters = parameters;
  launch.deadline = absl::Seconds(request.value("seconds", 60.0));
  LaunchOutcome outcome;
  launcher.stream().Launch(launch, [&outcome](LaunchOutcome done) { outcome = std::move(done); });
  launcher.stream().Synchronize();
  if (!outcome.status.ok()) {
    json error = ErrorOf(outcome.status);
    error["fault"] = outcome.fault.message;
    error["line"] = outcome.fault.ptx_line;
    return error;
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (request["buffers"][i].value("input", false)) continue;
    const std::string path = request["buffers"][i]["file"];
    std::ofstream file(path, std::ios::binary);
    file.write(reinterpret_cast<const char*>(tensors[i].host),
               static_cast<std::streamsize>(tensors[i].bytes));
    if (!file) return {{"error", "cannot write " + path}};
  }
  return {{"printed", outcome.printed},
          {"instructions", outcome.statistics.warp_instructions},
          {"seconds", absl::ToDoubleSeconds(outcome.statistics.device_time)}};
}

}  // namespace
}  // namespace trun::device

int main() {
  std::string line;
  while (std::getline(std::cin, line)) {
    const nlohmann::json request = nlohmann::json::parse(line, nullptr, false);
    if (!request.is_object() || !request.contains("op")) {
      std::cerr << "ptx_runner: a request is a JSON object with an \"op\"\n";
      return 2;
    }
    const nlohmann::json answer =
        request["op"] == "run" ? trun::device::Run(request) : trun::device::Load(request);
    std::cout << answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) << std::endl;
  }
  return 0;
}
