// 256 MiB from this process into a tensor, against one memcpy into shared memory that is equally fresh or
// equally warm, in turn; as JSON on stdout:
//   upload_bench SOCKET
// "Warm" is the third write into the same tensor: the second one still faults the pages of the client's
// mapping in.
#include <sys/mman.h>
#include <trun/client.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <iostream>
#include <string>
#include <vector>

#include "bench/load/need.h"

namespace {

using trun::Need;

constexpr size_t kBytes = size_t{256} << 20;

double Milliseconds(const std::function<void()>& call) {
  const auto start = std::chrono::steady_clock::now();
  call();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Fresh shared memory, as a tensor's is: a sealed memory file, mapped.
char* FreshSharedMemory() {
  const int fd = memfd_create("upload_bench", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, kBytes) != 0) std::exit(1);
  void* mapped = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (mapped == MAP_FAILED) std::exit(1);
  return static_cast<char*>(mapped);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: upload_bench SOCKET\n";
    return 2;
  }
  trun::ClientOptions options;
  options.address = std::string("unix:") + argv[1];
  trun::Client client = Need(trun::Client::Connect(options));
  trun::Session session = Need(client.OpenSession());
  const std::vector<char> source(kBytes, 'x');
  const absl::string_view data(source.data(), source.size());
  const trun::TensorSpec spec{trun::ScalarType::kI8, {kBytes}};

  std::vector<double> ours_fresh, ours_warm, theirs_fresh, theirs_warm, ratio_fresh, ratio_warm;
  for (int round = 0; round < 5; ++round) {
    char* shared = FreshSharedMemory();
    theirs_fresh.push_back(Milliseconds([&] { std::memcpy(shared, source.data(), kBytes); }));
    theirs_warm.push_back(Milliseconds([&] { std::memcpy(shared, source.data(), kBytes); }));
    munmap(shared, kBytes);
    std::vector<trun::Tensor> tensors = Need(session.Allocate({spec}));
    ours_fresh.push_back(Milliseconds([&] { Need(tensors[0].Write(data)); }));
    Need(tensors[0].Write(data));
    ours_warm.push_back(Milliseconds([&] { Need(tensors[0].Write(data)); }));
    ratio_fresh.push_back(ours_fresh.back() / theirs_fresh.back());
    ratio_warm.push_back(ours_warm.back() / theirs_warm.back());
  }
  std::cout << "{\"upload_fresh_ms\": " << Median(ours_fresh)
            << ", \"memcpy_fresh_ms\": " << Median(theirs_fresh)
            << ", \"ratio_fresh\": " << Median(ratio_fresh) << ", \"upload_warm_ms\": " << Median(ours_warm)
            << ", \"memcpy_warm_ms\": " << Median(theirs_warm) << ", \"ratio_warm\": " << Median(ratio_warm)
            << "}\n";
  return 0;
}
