#include "client/cpp/kernel_conversion.h"

#include "client/cpp/connection.h"

namespace trun {
inline namespace client {
namespace {

void ToProto(const TensorAt& tensor, v1::TensorReference* out) {
  out->set_tensor(tensor.handle);
  out->set_offset(tensor.offset);
}

struct ArgumentWriter {
  v1::LaunchArgument* out;
  void operator()(const TensorAt& tensor) const { ToProto(tensor, out->mutable_tensor()); }
  void operator()(int64_t value) const { out->set_int_value(value); }
  void operator()(uint64_t value) const { out->set_uint_value(value); }
  void operator()(double value) const { out->set_float_value(value); }
  void operator()(std::nullptr_t) const { out->set_null_pointer(true); }
  void operator()(const TensorDescriptor& descriptor) const {
    v1::TensorDescriptor* to = out->mutable_tensor_descriptor();
    ToProto(descriptor.base, to->mutable_base());
    to->mutable_shape()->Assign(descriptor.shape.begin(), descriptor.shape.end());
    to->mutable_strides()->Assign(descriptor.strides.begin(), descriptor.strides.end());
    to->mutable_block_shape()->Assign(descriptor.block_shape.begin(), descriptor.block_shape.end());
    to->set_padding_nan(descriptor.padding_nan);
    to->set_round_f32_to_tf32(descriptor.round_f32_to_tf32);
    if (!descriptor.im2col.has_value()) return;
    const Im2col& box = *descriptor.im2col;
    v1::Im2col* const wire = to->mutable_im2col();
    wire->mutable_lower_corner()->Assign(box.lower_corner.begin(), box.lower_corner.end());
    wire->mutable_upper_corner()->Assign(box.upper_corner.begin(), box.upper_corner.end());
    wire->mutable_element_strides()->Assign(box.element_strides.begin(), box.element_strides.end());
  }
};

}  // namespace

v1::CompileRequest ToProto(const CompileOptions& options, Level level) {
  v1::CompileRequest request;
  request.set_level(static_cast<v1::Level>(level));
  request.set_file_name(options.file_name);
  request.set_metadata_json(options.metadata_json);
  request.set_target(options.target);
  request.set_toolchain(options.toolchain);
  for (const auto& [name, value] : options.options) (*request.mutable_options())[name] = value;
  request.set_last_level(static_cast<v1::Level>(options.last_level));
  request.set_kernel_name(options.kernel_name);
  if (options.deadline > absl::ZeroDuration()) client::ToProto(options.deadline, request.mutable_deadline());
  request.set_recompile(options.recompile);
  request.set_record_passes(options.record_passes);
  request.set_resume_after_pass(options.resume_after_pass);
  return request;
}

StageEvent FromProto(const v1::CompileResponse& event) {
  StageEvent stage;
  if (event.has_stage_started()) {
    stage.level = static_cast<Level>(event.stage_started().level());
    return stage;
  }
  if (event.has_pass_done()) {
    stage.level = static_cast<Level>(event.pass_done().stage());
    stage.pass = event.pass_done().name();
    stage.changed = event.pass_done().changed();
    stage.time = FromProto(event.pass_done().time());
    stage.bytes = event.pass_done().bytes();
    return stage;
  }
  stage.level = static_cast<Level>(event.stage_done().level());
  stage.done = true;
  stage.cached = event.stage_done().cached();
  stage.time = FromProto(event.stage_done().time());
  stage.bytes = event.stage_done().bytes();
  return stage;
}

KernelInfo FromProto(const v1::CompiledKernel& kernel) {
  KernelInfo info;
  info.name = kernel.info().name();
  for (const v1::KernelArgument& from : kernel.info().arguments()) {
    ArgumentInfo argument;
    argument.name = from.name();
    argument.kind = from.kind() == v1::ARGUMENT_KIND_POINTER ? ArgumentInfo::Kind::kPointer
                    : from.kind() == v1::ARGUMENT_KIND_TENSOR_DESCRIPTOR
                        ? ArgumentInfo::Kind::kTensorDescriptor
                        : ArgumentInfo::Kind::kScalar;
    argument.dtype = static_cast<ScalarType>(from.dtype());
    argument.bytes = from.bytes();
    argument.divisibility = from.divisibility();
    argument.descriptor_type = from.descriptor_type();
    info.arguments.push_back(std::move(argument));
  }
  info.num_warps = kernel.info().num_warps();
  info.num_ctas = kernel.info().num_ctas();
  info.shared_bytes = kernel.info().shared_bytes();
  info.target = kernel.info().target();
  info.triton_version = kernel.info().triton_version();
  info.metadata_json = kernel.info().metadata_json();
  for (const v1::ArtifactInfo& from : kernel.artifacts()) {
    info.artifacts.push_back({static_cast<Level>(from.level()), from.bytes(), from.digest()});
  }
  info.toolchain = kernel.toolchain();
  info.toolchain_reason = kernel.toolchain_reason();
  info.cached = kernel.cached();
  info.cache_key = kernel.cache_key();
  info.total_time = FromProto(kernel.total_time());
  info.log = kernel.log();
  return info;
}

v1::LaunchRequest ToProto(Grid grid, absl::Span<const Argument> arguments, const LaunchOptions& options) {
  v1::LaunchRequest request;
  request.add_grid(grid.x);
  request.add_grid(grid.y);
  request.add_grid(grid.z);
  for (const Argument& argument : arguments)
    std::visit(ArgumentWriter{request.add_arguments()}, argument.value());
  if (options.deadline > absl::ZeroDuration()) client::ToProto(options.deadline, request.mutable_deadline());
  if (options.checks.uninitialized) request.mutable_checks()->set_uninitialized(true);
  if (options.checks.races) request.mutable_checks()->set_races(true);
  if (options.checks.async) request.mutable_checks()->set_async(true);
  for (const std::string& handle : options.checks.unwritten) request.mutable_checks()->add_unwritten(handle);
  if (options.trace.lines || options.trace.registers) {
    v1::LaunchTrace* const trace = request.mutable_trace();
    trace->set_lines(options.trace.lines);
    trace->set_registers(options.trace.registers);
    for (const uint32_t coordinate : options.trace.program) trace->add_program(coordinate);
    for (const uint32_t coordinate : options.trace.thread) trace->add_thread(coordinate);
  }
  return request;
}

LaunchResult FromProto(const v1::LaunchResponse& response) {
  LaunchResult result;
  result.sequence = response.sequence();
  result.device_time = FromProto(response.result().device_time());
  result.warp_instructions = response.result().warp_instructions();
  result.printed = response.result().printed();
  result.trace = response.result().trace();
  return result;
}

absl::Status FromProto(const v1::LaunchStatus& status) {
  if (status.code() == 0) return absl::OkStatus();
  const absl::StatusCode code = status.code() > 0 && status.code() <= 16
                                    ? static_cast<absl::StatusCode>(status.code())
                                    : absl::StatusCode::kUnknown;
  const absl::Status result = MakeError(code, ReasonFromName(status.reason()), status.message());
  return status.has_fault() ? WithFault(result, status.fault()) : result;
}

}  // namespace client
}  // namespace trun
