// Adds two vectors with a Triton kernel: vector_add path/to/vector_add.ttir
//
// Starts a private daemon when none answers. Exit code 1 when a sum is wrong.
#include <trun/client.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <string>
#include <vector>

namespace {

absl::Status AddVectors(const std::string& kernel_file) {
  absl::StatusOr<trun::Client> client = trun::Client::Connect();
  if (!client.ok()) return client.status();
  absl::StatusOr<trun::Session> session = client->OpenSession();
  if (!session.ok()) return session.status();
  std::cout << "on " << session->device() << ", " << session->device_name() << "\n";

  absl::StatusOr<trun::Kernel> kernel = session->CompileFile(kernel_file);
  if (!kernel.ok()) return kernel.status();
  std::cout << kernel->info().name << " compiled by Triton " << kernel->info().toolchain << ", "
            << (kernel->info().cached ? "from the cache" : "fresh") << "\n";

  constexpr int kElements = 5000;  // not a multiple of the block: the kernel masks the rest
  std::vector<float> x(kElements), y(kElements), sum(kElements);
  for (int i = 0; i < kElements; ++i) {
    x[i] = 0.5f * static_cast<float>(i);
    y[i] = 1000.0f - static_cast<float>(i);
  }
  const trun::TensorSpec vector{trun::ScalarType::kF32, {kElements}};
  absl::StatusOr<std::vector<trun::Tensor>> tensors = session->Allocate({vector, vector, vector});
  if (!tensors.ok()) return tensors.status();
  const size_t bytes = kElements * sizeof(float);
  for (int i = 0; i < 2; ++i) {
    const std::vector<float>& values = i == 0 ? x : y;
    absl::Status written = (*tensors)[i].Write({reinterpret_cast<const char*>(values.data()), bytes});
    if (!written.ok()) return written;
  }

  constexpr int kBlock = 1024;
  const trun::Grid grid{(kElements + kBlock - 1) / kBlock};
  absl::StatusOr<trun::LaunchResult> launch =
      kernel->Launch(grid, {(*tensors)[0], (*tensors)[1], (*tensors)[2], kElements});
  if (!launch.ok()) return launch.status();

  absl::Status read = (*tensors)[2].Read({reinterpret_cast<char*>(sum.data()), bytes});
  if (!read.ok()) return read;
  for (int i = 0; i < kElements; ++i) {
    if (sum[i] != x[i] + y[i]) {
      return absl::DataLossError("element " + std::to_string(i) + " is " + std::to_string(sum[i]));
    }
  }
  std::cout << kElements << " sums are right, " << launch->device_time << " on the device\n";
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: vector_add vector_add.ttir\n";
    return 2;
  }
  const absl::Status status = AddVectors(argv[1]);
  if (status.ok()) return 0;
  std::cerr << "error: " << status.message() << " [" << trun::ReasonName(trun::GetReason(status)) << "]\n";
  if (const auto fault = trun::GetFaultReport(status)) {
    std::cerr << "note: " << fault->kernel_name << " stopped at " << fault->source_file << ":"
              << fault->source_line << "\n";
  }
  return 1;
}
