// What a launch and an upload cost through the daemon on a GPU, each beside the same done in this process
// with the driver alone. Prints one JSON object.
//
//   gpu_bench KERNELS [sweep]    KERNELS: server/device/cuda/testdata; sweep: copies by more ways to share
//   them out
//
// Starts a private daemon, or uses the one of TRUN_ADDRESS.
#include <sys/utsname.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/load/need.h"
#include "server/device/cuda/cuda_device.h"
#include "trun/client.h"

namespace {

using Clock = std::chrono::steady_clock;
using trun::Need;
constexpr uint64_t kGiB = uint64_t{1} << 30;
constexpr int kBatch = 64;
constexpr uint64_t kWords = uint64_t{1} << 26;  // a kernel of some 100 µs

double Seconds(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

// The same kernel and the same copies, in this process.
struct InProcess {
  double device_us = 0;                          // median
  double launch_us = 0, launch_in_batch_us = 0;  // of one program: launch to result; each of 64, to the last
  double upload_gbps = 0, download_gbps = 0;
};

InProcess MeasureInProcess(const std::string& cubin) {
  namespace device = trun::device;
  constexpr uint64_t kBase = 0x3000'0000'0000;
  auto gpu = Need(device::CreateCudaDevice({}));
  const trun::UniqueFd memory = Need(gpu->CreateMemory(kGiB));
  auto arena = Need(gpu->MapArena(memory, kGiB, kBase));
  auto module = Need(gpu->LoadModule(cubin));
  auto stream = Need(gpu->CreateStream());
  std::vector<std::byte> parameters(12);
  std::memcpy(parameters.data(), &kBase, 8);
  device::LaunchRequest request;
  request.kernel = Need(module->GetKernel("fill"));
  request.dimensions.grid = {kWords / 1024, 1, 1};
  request.dimensions.block = {1024, 1, 1};
  request.parameters = parameters;
  std::vector<double> times;
  for (int i = 0; i < 220; ++i) {
    stream->Launch(request, [&times, i](device::LaunchOutcome outcome) {
      Need(outcome.status);
      if (i >= 20) times.push_back(absl::ToDoubleMicroseconds(outcome.statistics.device_time));
    });
  }
  stream->Synchronize();
  InProcess result;
  result.device_us = Median(times);
  request.dimensions.grid = {1, 1, 1};
  const auto launch = [&](int count) {
    const auto begin = Clock::now();
    for (int i = 0; i < count; ++i) {
      stream->Launch(request, [](device::LaunchOutcome outcome) { Need(outcome.status); });
    }
    stream->Synchronize();
    return 1e6 * Seconds(begin) / count;
  };
  std::vector<double> single, batch;
  for (int i = 0; i < 2200; ++i) {
    const double took = launch(1);
    if (i >= 200) single.push_back(took);
  }
  for (int i = 0; i < 20; ++i) batch.push_back(launch(kBatch));
  result.launch_us = Median(single);
  result.launch_in_batch_us = Median(batch);
  std::vector<char> host(kGiB, 'x');
  Need(gpu->PinMemory(absl::MakeSpan(host)));
  std::vector<double> up, down;
  for (int i = 0; i < 5; ++i) {
    auto begin = Clock::now();
    Need(gpu->WriteMemory(kBase, host));
    up.push_back(Seconds(begin));
    begin = Clock::now();
    Need(gpu->ReadMemory(kBase, absl::MakeSpan(host)));
    down.push_back(Seconds(begin));
  }
  gpu->UnpinMemory(absl::MakeSpan(host));
  result.upload_gbps = kGiB / Median(up) / 1e9;
  result.download_gbps = kGiB / Median(down) / 1e9;
  return result;
}

struct Rates {
  double up = 0, down = 0;  // GB/s, medians
};

// A tensor's bytes from `from`, and back into `to`; ends the program where they differ.
Rates MeasureCopies(trun::Tensor& tensor, absl::Span<char> from, absl::Span<char> to) {
  for (size_t i = 0; i < from.size(); i += 4096) from[i] = static_cast<char>(i / 4096 * 7);
  std::vector<double> up, down;
  for (int i = 0; i < 6; ++i) {
    auto begin = Clock::now();
    Need(tensor.Write(absl::string_view(from.data(), from.size())));
    const double wrote = Seconds(begin);
    begin = Clock::now();
    Need(tensor.Read(to));
    if (i == 0) continue;  // makes the staging area
    up.push_back(wrote);
    down.push_back(Seconds(begin));
  }
  if (!std::equal(from.begin(), from.end(), to.begin())) {
    std::cerr << "what was read is not what was written" << std::endl;
    std::exit(1);
  }
  const double bytes = static_cast<double>(from.size());
  return {bytes / Median(up) / 1e9, bytes / Median(down) / 1e9};
}

Rates MeasureSharedOut(trun::Client& client, uint64_t bytes, const trun::HostCopyOptions& copies) {
  trun::SessionOptions options;
  options.copies = copies;
  trun::Session session = Need(client.OpenSession(options));
  trun::Tensor tensor = Need(session.Allocate(trun::ScalarType::kI8, {bytes}));
  std::string from(bytes, 'y'), to(bytes, '\0');
  return MeasureCopies(tensor, absl::MakeSpan(&from[0], bytes), absl::MakeSpan(&to[0], bytes));
}

// How fast this process copies memory by itself, with so many threads: what bounds copies of memory that is
// not pinned.
double MeasureMemcpy(int threads) {
  const std::string from(kGiB, 'y');
  std::string to(kGiB, '\0');
  std::vector<double> times;
  for (int i = 0; i < 3; ++i) {
    const auto begin = Clock::now();
    std::vector<std::thread> copiers;
    for (int t = 0; t < threads; ++t) {
      const uint64_t part = kGiB / threads;
      copiers.emplace_back([&, t, part] { std::memcpy(&to[t * part], &from[t * part], part); });
    }
    for (std::thread& copier : copiers) copier.join();
    times.push_back(Seconds(begin));
  }
  return kGiB / Median(times) / 1e9;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2 && argc != 3) {
    std::cerr << "usage: gpu_bench KERNELS [sweep]" << std::endl;
    return 2;
  }
  const std::string cubin = ReadFile(absl::StrCat(argv[1], "/conformance.sm_90.cubin"));
  nlohmann::ordered_json json;
  utsname system;
  uname(&system);
  json["kernel"] = system.release;

  trun::Client client = Need(trun::Client::Connect());
  for (const trun::DeviceInfo& device : Need(client.ListDevices())) {
    if (!device.is_default) continue;
    json["device"] = device.name;
    json["driver"] = device.driver;
  }
  auto begin = Clock::now();
  trun::Session session = Need(client.OpenSession());
  json["session_open_first_ms"] = 1e3 * Seconds(begin);
  trun::CompileOptions options;
  options.level = trun::Level::kCubin;
  options.kernel_name = "fill";
  options.metadata_json =
      R"({"name": "fill", "num_warps": 32, "num_ctas": 1, "shared": 0, "triton_version": "3.2.0",
          "target": {"backend": "cuda", "arch": 90, "warp_size": 32}})";
  trun::Kernel kernel = Need(session.Compile(cubin, options));
  trun::Tensor tensor = Need(session.Allocate(trun::ScalarType::kI8, {kGiB}));
  const std::vector<trun::Argument> arguments = {tensor, 0};

  // Unary: launch to result.
  const trun::Grid one = {1, 1, 1};
  std::vector<double> times;
  for (int i = 0; i < 2200; ++i) {
    begin = Clock::now();
    Need(kernel.Launch(one, arguments).status());
    if (i >= 200) times.push_back(1e6 * Seconds(begin));
  }
  json["launch_unary_us"] = Median(times);

  // Stream: one at a time, and pipelined.
  {
    trun::LaunchStream stream = Need(session.OpenLaunchStream());
    times.clear();
    for (int i = 0; i < 2200; ++i) {
      begin = Clock::now();
      Need(stream.Launch(kernel, one, arguments));
      Need(stream.Next().status());
      if (i >= 200) times.push_back(1e6 * Seconds(begin));
    }
    json["launch_stream_round_trip_us"] = Median(times);
    for (const int batch : {kBatch, 2000}) {
      times.clear();
      for (int round = 0; round < 20; ++round) {
        begin = Clock::now();
        for (int i = 0; i < batch; ++i) Need(stream.Launch(kernel, one, arguments));
        for (int i = 0; i < batch; ++i) Need(stream.Next().status());
        times.push_back(1e6 * Seconds(begin) / batch);
      }
      json[absl::StrCat("launch_stream_batch_of_", batch, "_us_each")] = Median(times);
    }
  }

  // The device's own time of the same kernel.
  trun::BenchmarkOptions benchmark;
  benchmark.warmup = 20;
  benchmark.repetitions = 200;
  const trun::BenchmarkResult measured =
      Need(kernel.Benchmark({static_cast<uint32_t>(kWords / 1024), 1, 1}, arguments, benchmark));
  times.clear();
  for (const absl::Duration time : measured.device_times) times.push_back(absl::ToDoubleMicroseconds(time));
  const double device_us = Median(times);

  begin = Clock::now();
  trun::PinnedMemory from = Need(session.AllocatePinned(kGiB));
  json["allocate_pinned_1gib_ms"] = 1e3 * Seconds(begin);
  json["unpinned_reason"] = from.unpinned_reason();
  trun::PinnedMemory to = Need(session.AllocatePinned(kGiB));
  const Rates pinned = MeasureCopies(tensor, from.bytes(), to.bytes());
  const Rates ordinary = MeasureSharedOut(client, kGiB, {});
  const InProcess alone = MeasureInProcess(cubin);
  // The same kernel of one program, launched and waited for here: what the way through the daemon is held
  // against.
  json["launch_in_process_us"] = alone.launch_us;
  json["launch_in_process_batch_of_64_us_each"] = alone.launch_in_batch_us;
  json["launch_unary_ratio"] = json["launch_unary_us"].get<double>() / alone.launch_us;
  json["launch_stream_round_trip_ratio"] =
      json["launch_stream_round_trip_us"].get<double>() / alone.launch_us;
  json["launch_stream_batch_of_64_ratio"] =
      json["launch_stream_batch_of_64_us_each"].get<double>() / alone.launch_in_batch_us;
  json["device_time_us"] = device_us;
  json["device_time_in_process_us"] = alone.device_us;
  json["device_time_ratio"] = device_us / alone.device_us;
  // One DMA of this process's own, of memory that it registered: the ceiling.
  json["pinned_cumemcpy_gb_per_s"] = {{"up", alone.upload_gbps}, {"down", alone.download_gbps}};
  const auto report = [&](const char* name, const Rates& rates) {
    json[name] = {{"up_gb_per_s", rates.up},
                  {"down_gb_per_s", rates.down},
                  {"up_ratio", rates.up / alone.upload_gbps},
                  {"down_ratio", rates.down / alone.download_gbps}};
  };
  report("copy_1gib_pinned_memory", pinned);
  report("copy_1gib_ordinary_memory", ordinary);
  if (argc == 3) {
    for (const int threads : {1, 4, 8, 16}) {
      json["memcpy_gb_per_s"][absl::StrCat(threads, " threads")] = MeasureMemcpy(threads);
    }
    for (const int threads : {4, 8, 12, 16}) {
      for (const uint64_t piece : {2, 4, 8}) {
        const Rates rates = MeasureSharedOut(client, kGiB, {threads, piece << 20});
        json["sweep"][absl::StrCat(threads, " x ", piece, " MiB")] = {rates.up, rates.down};
      }
    }
  }
  std::cout << json.dump(1) << std::endl;
  return 0;
}
