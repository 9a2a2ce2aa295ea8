#include "trun/status.h"

#include "common/rpc/status_mapping.h"

namespace trun {
inline namespace client {

std::optional<FaultReport> GetFaultReport(const absl::Status& status) {
  const std::optional<v1::FaultReport> wire = GetFault(status);
  if (!wire) return std::nullopt;
  FaultReport fault;
  fault.sequence = wire->sequence();
  fault.kernel_name = wire->kernel_name();
  fault.instruction = wire->instruction();
  fault.ptx_line = wire->ptx_line();
  fault.source_file = wire->source_file();
  fault.source_line = wire->source_line();
  fault.program.assign(wire->program().begin(), wire->program().end());
  fault.thread.assign(wire->thread().begin(), wire->thread().end());
  fault.address = wire->address();
  fault.access_bytes = wire->access_bytes();
  fault.space = wire->space();
  fault.is_write = wire->is_write();
  fault.nearest_tensor = wire->nearest_tensor();
  fault.nearest_tensor_offset = wire->nearest_tensor_offset();
  fault.nearest_tensor_bytes = wire->nearest_tensor_bytes();
  fault.message = wire->message();
  fault.trace_end = wire->trace_end();
  fault.other.role = wire->other().role();
  fault.other.instruction = wire->other().instruction();
  fault.other.ptx_line = wire->other().ptx_line();
  fault.other.source_file = wire->other().source_file();
  fault.other.source_line = wire->other().source_line();
  fault.other.program.assign(wire->other().program().begin(), wire->other().program().end());
  fault.other.thread.assign(wire->other().thread().begin(), wire->other().thread().end());
  return fault;
}

}  // namespace client
}  // namespace trun
