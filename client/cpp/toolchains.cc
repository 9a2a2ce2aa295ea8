#include "trun/toolchains.h"

#include <algorithm>
#include <utility>

#include "client/cpp/connection.h"
#include "trun/v1/toolchain.grpc.pb.h"

namespace trun {
inline namespace client {
namespace {

// Adopting starts a Python and imports its Triton, from a cold disk at worst.
constexpr absl::Duration kAdoptTimeout = absl::Minutes(5);

ToolchainInfo ToInfo(const v1::Toolchain& from) {
  ToolchainInfo info;
  info.name = from.name();
  info.version = from.version();
  info.id = from.id();
  info.path = from.path();
  info.adopted = from.adopted();
  info.unusable_reason = from.unusable_reason();
  info.warm_workers = from.warm_workers();
  info.busy_workers = from.busy_workers();
  info.ptxas_versions.assign(from.ptxas_versions().begin(), from.ptxas_versions().end());
  return info;
}

}  // namespace

absl::StatusOr<std::vector<ToolchainInfo>> Toolchains::List() const {
  const std::unique_ptr<v1::ToolchainService::Stub> stub =
      v1::ToolchainService::NewStub(connection_->channel);
  TRUN_ASSIGN_OR_RETURN(
      const v1::ListToolchainsResponse response,
      Call(*stub, &v1::ToolchainService::Stub::ListToolchains, v1::ListToolchainsRequest()));
  std::vector<ToolchainInfo> toolchains;
  for (const v1::Toolchain& toolchain : response.toolchains()) toolchains.push_back(ToInfo(toolchain));
  return toolchains;
}

absl::StatusOr<ToolchainInfo> Toolchains::Install(const std::string& version,
                                                  const Progress& progress) const {
  const std::unique_ptr<v1::ToolchainService::Stub> stub =
      v1::ToolchainService::NewStub(connection_->channel);
  v1::InstallToolchainRequest request;
  request.set_version(version);
  grpc::ClientContext context;
  auto reader = stub->InstallToolchain(&context, request);
  v1::InstallToolchainResponse event;
  ToolchainInfo installed;
  bool finished = false;
  double fraction = 0;
  while (reader->Read(&event)) {
    fraction = std::clamp(event.fraction(), fraction, 1.0);
    if (progress) progress(event.step(), fraction);
    if (event.has_toolchain()) {
      installed = ToInfo(event.toolchain());
      finished = true;
    }
  }
  TRUN_RETURN_IF_ERROR(FromGrpcStatus(reader->Finish()));
  if (!finished) {
    return MakeError(absl::StatusCode::kInternal, Reason::kProtocol,
                     "the daemon ended the installation without a toolchain");
  }
  return installed;
}

absl::StatusOr<ToolchainInfo> Toolchains::Adopt(const std::string& python, const std::string& name) const {
  const std::unique_ptr<v1::ToolchainService::Stub> stub =
      v1::ToolchainService::NewStub(connection_->channel);
  v1::AdoptToolchainRequest request;
  request.set_python(python);
  request.set_name(name);
  TRUN_ASSIGN_OR_RETURN(const v1::AdoptToolchainResponse response,
                        Call(*stub, &v1::ToolchainService::Stub::AdoptToolchain, request, kAdoptTimeout));
  return ToInfo(response.toolchain());
}

absl::Status Toolchains::Remove(const std::string& name) const {
  const std::unique_ptr<v1::ToolchainService::Stub> stub =
      v1::ToolchainService::NewStub(connection_->channel);
  v1::RemoveToolchainRequest request;
  request.set_name(name);
  return Call(*stub, &v1::ToolchainService::Stub::RemoveToolchain, request).status();
}

absl::StatusOr<std::vector<CompileOptionInfo>> Toolchains::DescribeOptions(const std::string& name) const {
  const std::unique_ptr<v1::ToolchainService::Stub> stub =
      v1::ToolchainService::NewStub(connection_->channel);
  v1::DescribeToolchainRequest request;
  request.set_name(name);
  TRUN_ASSIGN_OR_RETURN(const v1::DescribeToolchainResponse response,
                        Call(*stub, &v1::ToolchainService::Stub::DescribeToolchain, request));
  std::vector<CompileOptionInfo> options;
  for (const v1::CompileOption& from : response.options()) {
    options.push_back({from.name(), from.type(), from.default_json()});
  }
  return options;
}

}  // namespace client
}  // namespace trun
