#include "server/service/wire.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"
#include "common/rpc/status_mapping.h"

namespace trun {
namespace {

// google/protobuf/duration.proto: ±10,000 years.
constexpr int64_t kMaxDurationSeconds = 315576000000;
// Far above any kernel's; the session checks the exact count.
constexpr int kMaxArguments = 4096;
constexpr int kMaxRank = 64;

absl::StatusOr<TensorDescriptor> DecodeDescriptor(const v1::TensorDescriptor& wire) {
  if (wire.shape_size() > kMaxRank || wire.strides_size() > kMaxRank || wire.block_shape_size() > kMaxRank) {
    return InvalidArgument(Reason::kArgument,
                           "a tensor descriptor has more dimensions than any device takes");
  }
  TensorDescriptor descriptor;
  descriptor.base = {wire.base().tensor(), wire.base().offset()};
  descriptor.shape.assign(wire.shape().begin(), wire.shape().end());
  descriptor.strides.assign(wire.strides().begin(), wire.strides().end());
  descriptor.block_shape.assign(wire.block_shape().begin(), wire.block_shape().end());
  descriptor.padding_nan = wire.padding_nan();
  descriptor.round_f32_to_tf32 = wire.round_f32_to_tf32();
  if (wire.has_im2col()) {
    const v1::Im2col& box = wire.im2col();
    if (box.lower_corner_size() > kMaxRank || box.upper_corner_size() > kMaxRank ||
        box.element_strides_size() > kMaxRank) {
      return InvalidArgument(Reason::kArgument,
                             "an im2col descriptor has more corners or strides than any tensor dimensions");
    }
    descriptor.im2col.emplace();
    descriptor.im2col->lower_corner.assign(box.lower_corner().begin(), box.lower_corner().end());
    descriptor.im2col->upper_corner.assign(box.upper_corner().begin(), box.upper_corner().end());
    descriptor.im2col->element_strides.assign(box.element_strides().begin(), box.element_strides().end());
  }
  return descriptor;
}

absl::StatusOr<LaunchArgument> DecodeArgument(const v1::LaunchArgument& wire) {
  switch (wire.value_case()) {
    case v1::LaunchArgument::kTensor:
      return TensorReference{wire.tensor().tensor(), wire.tensor().offset()};
    case v1::LaunchArgument::kIntValue:
      return LaunchArgument(std::in_place_type<int64_t>, wire.int_value());
    case v1::LaunchArgument::kUintValue:
      return LaunchArgument(std::in_place_type<uint64_t>, wire.uint_value());
    case v1::LaunchArgument::kFloatValue:
      return LaunchArgument(wire.float_value());
    case v1::LaunchArgument::kTensorDescriptor: {
      TRUN_ASSIGN_OR_RETURN(TensorDescriptor descriptor, DecodeDescriptor(wire.tensor_descriptor()));
      return descriptor;
    }
    case v1::LaunchArgument::kNullPointer:
      if (wire.null_pointer()) return NullPointer{};
      return std::monostate{};
    case v1::LaunchArgument::VALUE_NOT_SET:
      return std::monostate{};
  }
  return std::monostate{};
}

v1::ArgumentKind EncodeKind(KernelArgument::Kind kind) {
  switch (kind) {
    case KernelArgument::Kind::kPointer:
      return v1::ARGUMENT_KIND_POINTER;
    case KernelArgument::Kind::kScalar:
      return v1::ARGUMENT_KIND_SCALAR;
    case KernelArgument::Kind::kTensorDescriptor:
      return v1::ARGUMENT_KIND_TENSOR_DESCRIPTOR;
  }
  return v1::ARGUMENT_KIND_UNSPECIFIED;
}

// A proto3 string must be UTF-8; what comes from files and children may not be.
std::string Text(absl::string_view text) { return WireText(text, size_t{1} << 20); }

absl::Status DecodeIndex(const google::protobuf::RepeatedField<uint32_t>& wire, absl::string_view field,
                         std::array<uint32_t, 3>* index) {
  if (wire.size() > 3) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat(field, " has ", wire.size(), " numbers, not up to 3"),
                           {{"field", std::string(field)}});
  }
  for (int i = 0; i < wire.size(); ++i) (*index)[static_cast<size_t>(i)] = wire.Get(i);
  return absl::OkStatus();
}

// The last whole lines of a trace that a status has room for.
absl::string_view EndOf(absl::string_view trace) {
  constexpr size_t kMaxEnd = 2048;
  if (trace.size() <= kMaxEnd) return trace;
  trace.remove_prefix(trace.size() - kMaxEnd);
  const size_t line = trace.find('\n');
  return line == absl::string_view::npos ? trace : trace.substr(line + 1);
}

}  // namespace

absl::StatusOr<absl::Duration> DecodeDuration(const google::protobuf::Duration& wire, absl::string_view field,
                                              absl::Duration max) {
  const bool malformed = wire.seconds() > kMaxDurationSeconds || wire.seconds() < -kMaxDurationSeconds ||
                         wire.nanos() > 999999999 || wire.nanos() < -999999999 ||
                         (wire.seconds() > 0 && wire.nanos() < 0) || (wire.seconds() < 0 && wire.nanos() > 0);
  const absl::Duration duration =
      malformed ? absl::InfiniteDuration() : absl::Seconds(wire.seconds()) + absl::Nanoseconds(wire.nanos());
  if (malformed || duration < absl::ZeroDuration() || duration > max) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat(field, " must be between 0 and ", absl::FormatDuration(max)),
                           {{"field", std::string(field)}});
  }
  return duration;
}

absl::StatusOr<Level> DecodeLevel(v1::Level wire, absl::string_view field) {
  if (!v1::Level_IsValid(static_cast<int>(wire))) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat(field, ": ", static_cast<int>(wire), " is no level"),
                           {{"field", std::string(field)}});
  }
  return static_cast<Level>(wire);
}

absl::StatusOr<TensorSpec> DecodeTensorSpec(const v1::TensorSpec& wire) {
  if (!v1::Dtype_IsValid(static_cast<int>(wire.dtype()))) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat(static_cast<int>(wire.dtype()), " is no element type"));
  }
  if (wire.shape_size() > kMaxRank) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("a tensor has at most ", kMaxRank, " dimensions"));
  }
  TensorSpec spec;
  spec.dtype = static_cast<ScalarType>(wire.dtype());
  spec.shape.assign(wire.shape().begin(), wire.shape().end());
  return spec;
}

absl::StatusOr<SessionLaunch> DecodeLaunch(const v1::LaunchRequest& wire) {
  if (wire.arguments_size() > kMaxArguments) {
    return InvalidArgument(Reason::kArgument, absl::StrCat("a launch has at most ", kMaxArguments,
                                                           " arguments, not ", wire.arguments_size()));
  }
  if (wire.checks().unwritten_size() > kMaxArguments) {
    return InvalidArgument(Reason::kArgument,
                           absl::StrCat("a launch has at most ", kMaxArguments, " unwritten tensors, not ",
                                        wire.checks().unwritten_size()));
  }
  SessionLaunch launch;
  launch.kernel = wire.kernel();
  // One too many is left in, so that the session says what is wrong with it.
  for (int i = 0; i < wire.grid_size() && i < 4; ++i) launch.grid.push_back(wire.grid(i));
  launch.arguments.reserve(wire.arguments_size());
  for (const v1::LaunchArgument& argument : wire.arguments()) {
    TRUN_ASSIGN_OR_RETURN(LaunchArgument decoded, DecodeArgument(argument));
    launch.arguments.push_back(std::move(decoded));
  }
  TRUN_ASSIGN_OR_RETURN(launch.deadline, DecodeDuration(wire.deadline(), "deadline", absl::Hours(1)));
  launch.checks = {wire.checks().uninitialized(), wire.checks().races(), wire.checks().async()};
  launch.unwritten.assign(wire.checks().unwritten().begin(), wire.checks().unwritten().end());
  launch.trace.lines = wire.trace().lines();
  launch.trace.registers = wire.trace().registers();
  TRUN_RETURN_IF_ERROR(DecodeIndex(wire.trace().program(), "trace.program", &launch.trace.program));
  TRUN_RETURN_IF_ERROR(DecodeIndex(wire.trace().thread(), "trace.thread", &launch.trace.thread));
  return launch;
}

void EncodeDuration(absl::Duration duration, google::protobuf::Duration* wire) {
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  wire->set_seconds(seconds);
  wire->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

void EncodeTime(absl::Time time, google::protobuf::Timestamp* wire) {
  const int64_t nanoseconds = absl::ToUnixNanos(time);
  wire->set_seconds(nanoseconds / 1000000000);
  wire->set_nanos(static_cast<int32_t>(nanoseconds % 1000000000));
}

void EncodeKernel(const CompiledKernel& kernel, v1::KernelInfo* wire) {
  wire->set_name(Text(kernel.signature.name.empty() ? kernel.metadata.name : kernel.signature.name));
  for (const KernelArgument& argument : kernel.signature.arguments) {
    v1::KernelArgument* made = wire->add_arguments();
    made->set_name(Text(argument.name));
    made->set_kind(EncodeKind(argument.kind));
    made->set_dtype(static_cast<v1::Dtype>(argument.type));
    made->set_bytes(argument.bytes);
    made->set_divisibility(static_cast<uint32_t>(argument.divisibility));
    made->set_descriptor_type(Text(argument.descriptor_type));
  }
  wire->set_num_warps(static_cast<uint32_t>(kernel.metadata.num_warps));
  wire->set_num_ctas(static_cast<uint32_t>(kernel.metadata.num_ctas));
  wire->set_shared_bytes(kernel.metadata.shared_bytes);
  wire->set_target(kernel.metadata.target.ToString());
  wire->set_triton_version(Text(kernel.metadata.triton_version));
  wire->set_metadata_json(Text(kernel.metadata.raw_json));
}

void EncodeTensor(const TensorInfo& tensor, v1::TensorInfo* wire) {
  wire->set_tensor(tensor.handle);
  wire->set_dtype(static_cast<v1::Dtype>(tensor.dtype));
  for (const uint64_t extent : tensor.shape) wire->add_shape(extent);
  wire->set_bytes(tensor.bytes);
  wire->set_device_address(tensor.device_address);
}

void EncodeSession(const SessionStatistics& session, v1::SessionInfo* wire) {
  wire->set_session(session.id);
  wire->set_tenant(session.tenant);
  wire->set_client_name(Text(session.client_name));
  wire->set_device(session.device);
  EncodeDuration(session.age, wire->mutable_age());
  EncodeDuration(session.idle, wire->mutable_idle());
  wire->set_tensors(session.tensors);
  wire->set_tensor_bytes(session.tensor_bytes);
  wire->set_kernels(session.kernels);
  wire->set_launches(session.launches);
  wire->set_executor_restarts(session.executor_restarts);
  wire->set_executor_pid(session.executor_pid);
}

void EncodeStage(const StageEvent& event, v1::CompileResponse* wire) {
  if (event.kind == StageEvent::Kind::kStarted) {
    wire->mutable_stage_started()->set_level(static_cast<v1::Level>(event.level));
    return;
  }
  if (event.kind == StageEvent::Kind::kPass) {
    v1::PassDone* pass = wire->mutable_pass_done();
    pass->set_stage(static_cast<v1::Level>(event.level));
    pass->set_name(Text(event.pass));
    pass->set_index(event.index);
    pass->set_changed(event.changed);
    EncodeDuration(event.time, pass->mutable_time());
    pass->set_bytes(event.bytes);
    return;
  }
  v1::StageDone* done = wire->mutable_stage_done();
  done->set_level(static_cast<v1::Level>(event.level));
  EncodeDuration(event.time, done->mutable_time());
  done->set_cached(event.cached);
  done->set_bytes(event.bytes);
}

void EncodeToolchain(const ToolchainInfo& toolchain, v1::Toolchain* wire) {
  wire->set_name(Text(toolchain.name));
  wire->set_version(Text(toolchain.version));
  wire->set_id(Text(toolchain.id));
  wire->set_path(Text(toolchain.path));
  wire->set_adopted(toolchain.adopted);
  if (!toolchain.usable.ok()) wire->set_unusable_reason(Text(toolchain.usable.message()));
  for (const std::string& version : toolchain.ptxas_versions) wire->add_ptxas_versions(Text(version));
}

void EncodeFault(const LaunchFault& fault, v1::FaultReport* wire) {
  const device::FaultReport& report = fault.report;
  wire->set_sequence(fault.sequence);
  wire->set_kernel_name(Text(fault.kernel_name));
  wire->set_instruction(Text(report.instruction));
  wire->set_ptx_line(report.ptx_line);
  wire->set_source_file(Text(report.source_file));
  wire->set_source_line(report.source_line);
  for (const uint32_t coordinate : report.program) wire->add_program(coordinate);
  for (const uint32_t coordinate : report.thread) wire->add_thread(coordinate);
  wire->set_address(report.address);
  wire->set_access_bytes(report.access_bytes);
  wire->set_space(Text(report.space));
  wire->set_is_write(report.is_write);
  wire->set_nearest_tensor(fault.nearest_tensor);
  wire->set_nearest_tensor_offset(report.nearest_allocation_offset);
  wire->set_nearest_tensor_bytes(report.nearest_allocation_bytes);
  wire->set_message(Text(report.message));
  if (report.other.role.empty()) return;
  v1::OtherAccess* const other = wire->mutable_other();
  other->set_role(Text(report.other.role));
  other->set_instruction(Text(report.other.instruction));
  other->set_ptx_line(report.other.ptx_line);
  other->set_source_file(Text(report.other.source_file));
  other->set_source_line(report.other.source_line);
  for (const uint32_t coordinate : report.other.program) other->add_program(coordinate);
  for (const uint32_t coordinate : report.other.thread) other->add_thread(coordinate);
}

void EncodeResult(const LaunchResult& result, v1::LaunchResult* wire) {
  if (!result.device_times.empty()) EncodeDuration(result.device_times.front(), wire->mutable_device_time());
  wire->set_warp_instructions(result.warp_instructions);
  wire->set_printed(Text(result.printed));
  wire->set_trace(WireText(result.trace, device::kMaxTraceBytes));
}

void EncodeCacheEntry(const CacheEntryInfo& entry, v1::CacheEntry* wire) {
  wire->set_key(entry.key.ToHex());
  wire->set_kernel_name(Text(entry.kernel_name));
  wire->set_toolchain(Text(entry.toolchain));
  wire->set_target(Text(entry.target));
  wire->set_source_level(static_cast<v1::Level>(entry.source_level));
  for (const CacheBlobInfo& blob : entry.blobs) {
    v1::CacheBlob* made = wire->add_blobs();
    made->set_level(static_cast<v1::Level>(blob.level));
    made->set_bytes(blob.bytes);
    made->set_digest(blob.digest.ToHex());
  }
  EncodeTime(entry.created, wire->mutable_created());
  EncodeTime(entry.last_used, wire->mutable_last_used());
  wire->set_hits(entry.hits);
  wire->set_pinned(entry.pinned);
  wire->set_error(Text(entry.error));
}

absl::Status StatusOf(const LaunchResult& result) {
  if (result.status.ok()) return result.status;
  v1::FaultReport fault;
  EncodeFault(result.fault, &fault);
  fault.set_trace_end(Text(EndOf(result.trace)));
  return WithFault(WithDetails(result.status, {{"sequence", absl::StrCat(result.sequence)}}), fault);
}

absl::Status StatusOf(const SynchronizeResult& result) {
  if (result.status.ok()) return result.status;
  v1::FaultReport fault;
  EncodeFault(result.fault, &fault);
  return WithFault(result.status, fault);
}

void EncodeStatus(const absl::Status& status, v1::LaunchStatus* wire) {
  wire->set_code(static_cast<int32_t>(status.code()));
  if (status.ok()) return;
  wire->set_reason(std::string(ReasonName(GetReason(status))));
  wire->set_message(Text(status.message()));
  if (const std::optional<v1::FaultReport> fault = GetFault(status)) *wire->mutable_fault() = *fault;
}

}  // namespace trun
