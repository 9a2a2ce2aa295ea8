#include "server/executor/protocol/messages.h"

#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/base/status.h"

namespace trun {
namespace {

using Triple = std::array<uint32_t, 3>;
using RepeatedTriple = google::protobuf::RepeatedField<uint32_t>;

constexpr int kMaxParameters = 4096;
constexpr uint32_t kMaxParameterBytes = 64 << 10;  // PTX ISA 8.1: 32,764 on sm_70 and later

void EncodeTriple(const Triple& triple, RepeatedTriple* out) { out->Assign(triple.begin(), triple.end()); }

absl::Status DecodeTriple(const RepeatedTriple& in, absl::string_view name, Triple* out) {
  if (in.size() != 3) return ProtocolError(absl::StrCat(name, " has ", in.size(), " numbers, not 3"));
  for (int i = 0; i < 3; ++i) (*out)[i] = in[i];
  return absl::OkStatus();
}

}  // namespace

absl::Status ProtocolError(absl::string_view what) {
  return DataLoss(Reason::kProtocol,
                  absl::StrCat("a message that is not of the executor's protocol: ", what));
}

void EncodeStatus(const absl::Status& status, internal::v1::Status* out) {
  out->set_code(static_cast<int>(status.code()));
  if (status.ok()) return;
  out->set_reason(std::string(ReasonName(GetReason(status))));
  out->set_message(std::string(status.message()));
  for (const auto& [key, value] : GetDetails(status)) (*out->mutable_details())[key] = value;
}

absl::Status DecodeStatus(const internal::v1::Status& in, absl::Status* out) {
  if (in.code() < 0 || in.code() > 16) return ProtocolError(absl::StrCat("status code ", in.code()));
  if (in.code() == 0) {
    *out = absl::OkStatus();
    return absl::OkStatus();
  }
  const Reason reason = ReasonFromName(in.reason());
  *out = MakeError(static_cast<absl::StatusCode>(in.code()), reason, in.message(),
                   ErrorDetails(in.details().begin(), in.details().end()));
  return absl::OkStatus();
}

void EncodeDeviceInfo(const device::DeviceInfo& info, internal::v1::HelloReply* out) {
  out->set_protocol_version(kExecutorProtocolVersion);
  out->set_pid(getpid());
  out->set_device_name(info.name);
  out->set_target(info.target.ToString());
  out->set_memory_bytes(info.memory_bytes);
  out->set_multiprocessors(info.multiprocessors);
  out->set_max_shared_bytes(info.max_shared_bytes);
  out->set_module_level(static_cast<uint32_t>(info.module_level));
  out->set_max_threads_per_block(info.max_threads_per_block);
  EncodeTriple(info.max_grid, out->mutable_max_grid());
  out->set_kind(static_cast<uint32_t>(info.kind));
  out->set_host_memory(info.host_memory);
  out->set_clock_khz(info.clock_khz);
  out->set_memory_clock_khz(info.memory_clock_khz);
  out->set_driver(info.driver);
  out->set_pinning_refused(info.pinning_refused);
}

absl::StatusOr<device::DeviceInfo> DecodeDeviceInfo(const internal::v1::HelloReply& in) {
  if (in.protocol_version() != kExecutorProtocolVersion) {
    return ProtocolError(absl::StrCat("the executor speaks version ", in.protocol_version(), ", not ",
                                      kExecutorProtocolVersion,
                                      ": it is of another release; --executor names the one of this trund"));
  }
  device::DeviceInfo info;
  info.name = in.device_name();
  absl::StatusOr<Target> target = Target::Parse(in.target());
  if (!target.ok()) return ProtocolError(target.status().message());
  info.target = *target;
  info.memory_bytes = in.memory_bytes();
  info.multiprocessors = in.multiprocessors();
  info.max_shared_bytes = in.max_shared_bytes();
  info.max_threads_per_block = in.max_threads_per_block();
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.max_grid(), "max_grid", &info.max_grid));
  if (in.kind() > static_cast<uint32_t>(device::DeviceKind::kCuda))
    return ProtocolError("an unknown kind of device");
  info.kind = static_cast<device::DeviceKind>(in.kind());
  if (in.module_level() != static_cast<uint32_t>(Level::kPtx) &&
      in.module_level() != static_cast<uint32_t>(Level::kCubin)) {
    return ProtocolError(absl::StrCat("a device that loads level ", in.module_level()));
  }
  info.module_level = static_cast<Level>(in.module_level());
  info.host_memory = in.host_memory();
  info.clock_khz = in.clock_khz();
  info.memory_clock_khz = in.memory_clock_khz();
  info.driver = in.driver();
  info.pinning_refused = in.pinning_refused();
  return info;
}

void EncodeKernelAttributes(const device::KernelAttributes& attributes, internal::v1::LoadKernelReply* out) {
  out->set_name(attributes.name);
  for (const device::ParameterLayout& layout : attributes.parameters) {
    internal::v1::Parameter* const parameter = out->add_parameters();
    parameter->set_offset(layout.offset);
    parameter->set_bytes(layout.bytes);
    parameter->set_align(layout.align);
  }
  out->set_parameter_bytes(attributes.parameter_bytes);
  out->set_static_shared_bytes(attributes.static_shared_bytes);
  EncodeTriple(attributes.required_block, out->mutable_required_block());
  EncodeTriple(attributes.max_block, out->mutable_max_block());
  out->set_registers(attributes.registers);
  out->set_local_bytes(attributes.local_bytes);
}

absl::StatusOr<device::KernelAttributes> DecodeKernelAttributes(const internal::v1::LoadKernelReply& in) {
  device::KernelAttributes attributes;
  attributes.name = in.name();
  if (in.parameters_size() > kMaxParameters || in.parameter_bytes() > kMaxParameterBytes) {
    return ProtocolError(absl::StrCat("a kernel with ", in.parameters_size(), " parameters of ",
                                      in.parameter_bytes(), " bytes"));
  }
  uint64_t end = 0;
  attributes.parameters.reserve(static_cast<size_t>(in.parameters_size()));
  for (const internal::v1::Parameter& parameter : in.parameters()) {
    if (parameter.offset() < end || uint64_t{parameter.offset()} + parameter.bytes() > in.parameter_bytes()) {
      return ProtocolError("parameters of a kernel that overlap or lie outside its buffer");
    }
    end = uint64_t{parameter.offset()} + parameter.bytes();
    attributes.parameters.push_back({parameter.offset(), parameter.bytes(), parameter.align()});
  }
  attributes.parameter_bytes = in.parameter_bytes();
  attributes.static_shared_bytes = in.static_shared_bytes();
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.required_block(), "required_block", &attributes.required_block));
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.max_block(), "max_block", &attributes.max_block));
  attributes.registers = in.registers();
  attributes.local_bytes = in.local_bytes();
  return attributes;
}

void EncodeFault(const device::FaultReport& fault, internal::v1::Fault* out) {
  out->set_instruction(fault.instruction);
  out->set_ptx_line(fault.ptx_line);
  out->set_source_file(fault.source_file);
  out->set_source_line(fault.source_line);
  EncodeTriple(fault.program, out->mutable_program());
  EncodeTriple(fault.thread, out->mutable_thread());
  out->set_address(fault.address);
  out->set_access_bytes(fault.access_bytes);
  out->set_space(fault.space);
  out->set_is_write(fault.is_write);
  out->set_nearest_allocation(fault.nearest_allocation);
  out->set_nearest_allocation_offset(fault.nearest_allocation_offset);
  out->set_nearest_allocation_bytes(fault.nearest_allocation_bytes);
  out->set_message(fault.message);
  if (fault.other.role.empty()) return;
  internal::v1::OtherAccess* const other = out->mutable_other();
  other->set_role(fault.other.role);
  other->set_instruction(fault.other.instruction);
  other->set_ptx_line(fault.other.ptx_line);
  other->set_source_file(fault.other.source_file);
  other->set_source_line(fault.other.source_line);
  EncodeTriple(fault.other.program, other->mutable_program());
  EncodeTriple(fault.other.thread, other->mutable_thread());
}

absl::StatusOr<device::FaultReport> DecodeFault(const internal::v1::Fault& in) {
  device::FaultReport fault;
  fault.instruction = in.instruction();
  fault.ptx_line = in.ptx_line();
  fault.source_file = in.source_file();
  fault.source_line = in.source_line();
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.program(), "program", &fault.program));
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.thread(), "thread", &fault.thread));
  fault.address = in.address();
  fault.access_bytes = in.access_bytes();
  fault.space = in.space();
  fault.is_write = in.is_write();
  fault.nearest_allocation = in.nearest_allocation();
  fault.nearest_allocation_offset = in.nearest_allocation_offset();
  fault.nearest_allocation_bytes = in.nearest_allocation_bytes();
  fault.message = in.message();
  if (in.has_other()) {
    fault.other.role = in.other().role();
    fault.other.instruction = in.other().instruction();
    fault.other.ptx_line = in.other().ptx_line();
    fault.other.source_file = in.other().source_file();
    fault.other.source_line = in.other().source_line();
    TRUN_RETURN_IF_ERROR(DecodeTriple(in.other().program(), "other.program", &fault.other.program));
    TRUN_RETURN_IF_ERROR(DecodeTriple(in.other().thread(), "other.thread", &fault.other.thread));
  }
  return fault;
}

void EncodeWatch(const device::CheckOptions& checks, absl::Span<const uint64_t> unwritten,
                 const device::TraceOptions& trace, internal::v1::LaunchRequest* out) {
  if (checks.any()) {
    out->mutable_checks()->set_uninitialized(checks.uninitialized);
    out->mutable_checks()->set_races(checks.races);
    out->mutable_checks()->set_late_async(checks.late_async);
    for (const uint64_t id : unwritten) out->mutable_checks()->add_unwritten(id);
  }
  if (trace.any()) {
    out->mutable_trace()->set_lines(trace.lines);
    out->mutable_trace()->set_registers(trace.registers);
    EncodeTriple(trace.program, out->mutable_trace()->mutable_program());
    EncodeTriple(trace.thread, out->mutable_trace()->mutable_thread());
  }
}

device::CheckOptions DecodeChecks(const internal::v1::LaunchRequest& in) {
  return {in.checks().uninitialized(), in.checks().races(), in.checks().late_async()};
}

absl::StatusOr<device::TraceOptions> DecodeTrace(const internal::v1::LaunchRequest& in) {
  device::TraceOptions trace;
  if (!in.has_trace()) return trace;
  trace.lines = in.trace().lines();
  trace.registers = in.trace().registers();
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.trace().program(), "trace.program", &trace.program));
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.trace().thread(), "trace.thread", &trace.thread));
  return trace;
}

void EncodeDimensions(const device::LaunchDimensions& dimensions, internal::v1::LaunchRequest* out) {
  EncodeTriple(dimensions.grid, out->mutable_grid());
  EncodeTriple(dimensions.block, out->mutable_block());
  EncodeTriple(dimensions.cluster, out->mutable_cluster());
  out->set_dynamic_shared_bytes(dimensions.dynamic_shared_bytes);
  out->set_cooperative(dimensions.cooperative);
  out->set_programmatic_dependent_launch(dimensions.programmatic_dependent_launch);
}

absl::StatusOr<device::LaunchDimensions> DecodeDimensions(const internal::v1::LaunchRequest& in) {
  device::LaunchDimensions dimensions;
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.grid(), "grid", &dimensions.grid));
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.block(), "block", &dimensions.block));
  TRUN_RETURN_IF_ERROR(DecodeTriple(in.cluster(), "cluster", &dimensions.cluster));
  dimensions.dynamic_shared_bytes = in.dynamic_shared_bytes();
  dimensions.cooperative = in.cooperative();
  dimensions.programmatic_dependent_launch = in.programmatic_dependent_launch();
  return dimensions;
}

void EncodeTensorMap(const device::TensorMapFields& fields, internal::v1::TensorMap* out) {
  out->set_address(fields.address);
  out->set_element(fields.element);
  out->set_swizzle(fields.swizzle);
  out->set_nan_fill(fields.nan_fill);
  out->mutable_extents()->Assign(fields.extents.begin(), fields.extents.end());
  out->mutable_strides()->Assign(fields.strides.begin(), fields.strides.end());
  out->mutable_box()->Assign(fields.box.begin(), fields.box.end());
  if (!fields.im2col.has_value()) return;
  const device::Im2colBox& from = *fields.im2col;
  internal::v1::Im2colBox* const to = out->mutable_im2col();
  to->mutable_lower_corner()->Assign(from.lower_corner.begin(), from.lower_corner.end());
  to->mutable_upper_corner()->Assign(from.upper_corner.begin(), from.upper_corner.end());
  to->mutable_element_strides()->Assign(from.element_strides.begin(), from.element_strides.end());
}

device::TensorMapFields DecodeTensorMap(const internal::v1::TensorMap& in) {
  device::TensorMapFields fields;
  fields.address = in.address();
  // Numbers past a byte are none that a device knows.
  fields.element = static_cast<uint8_t>(std::min<uint32_t>(in.element(), 255));
  fields.swizzle = static_cast<uint8_t>(std::min<uint32_t>(in.swizzle(), 255));
  fields.nan_fill = in.nan_fill();
  fields.extents.assign(in.extents().begin(), in.extents().end());
  fields.strides.assign(in.strides().begin(), in.strides().end());
  fields.box.assign(in.box().begin(), in.box().end());
  if (in.has_im2col()) {
    fields.im2col.emplace();
    fields.im2col->lower_corner.assign(in.im2col().lower_corner().begin(), in.im2col().lower_corner().end());
    fields.im2col->upper_corner.assign(in.im2col().upper_corner().begin(), in.im2col().upper_corner().end());
    fields.im2col->element_strides.assign(in.im2col().element_strides().begin(),
                                          in.im2col().element_strides().end());
  }
  return fields;
}

}  // namespace trun
