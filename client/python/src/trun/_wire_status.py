"""google.rpc.Status in a call's trailers → TrunError.

The few messages are declared here with their public field numbers, in a pool of their own, so that no package of
googleapis is needed and none that is loaded is in the way.
"""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

from trun.errors import FaultReport, OtherAccess, TrunError, make_error
from trun.v1 import error_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_DOMAIN = "trun"

# What a status without details of ours means.
_REASON_OF_CODE = {
    "UNAVAILABLE": "UNAVAILABLE",
    "CANCELLED": "CANCELLED",
    "RESOURCE_EXHAUSTED": "TOO_LARGE",
    "UNIMPLEMENTED": "PROTOCOL",
    "INTERNAL": "PROTOCOL",
    "DEADLINE_EXCEEDED": "UNAVAILABLE",
}


def _messages() -> tuple[Any, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(any_pb2.DESCRIPTOR.serialized_pb)
    file = descriptor_pb2.FileDescriptorProto(
        name="google/rpc/status.proto",
        package="google.rpc",
        syntax="proto3",
        dependency=["google/protobuf/any.proto"],
    )
    field = descriptor_pb2.FieldDescriptorProto
    one, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    status = file.message_type.add(name="Status")
    status.field.add(name="code", number=1, type=field.TYPE_INT32, label=one)
    status.field.add(name="message", number=2, type=field.TYPE_STRING, label=one)
    status.field.add(
        name="details",
        number=3,
        type=field.TYPE_MESSAGE,
        label=many,
        type_name=".google.protobuf.Any",
    )
    info = file.message_type.add(name="ErrorInfo")
    info.field.add(name="reason", number=1, type=field.TYPE_STRING, label=one)
    info.field.add(name="domain", number=2, type=field.TYPE_STRING, label=one)
    entry = info.nested_type.add(name="MetadataEntry")
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=one)
    entry.field.add(name="value", number=2, type=field.TYPE_STRING, label=one)
    entry.options.map_entry = True
    info.field.add(
        name="metadata",
        number=3,
        type=field.TYPE_MESSAGE,
        label=many,
        type_name=".google.rpc.ErrorInfo.MetadataEntry",
    )
    pool.AddSerializedFile(file.SerializeToString())
    return tuple(
        message_factory.GetMessageClass(pool.FindMessageTypeByName(f"google.rpc.{name}"))
        for name in ("Status", "ErrorInfo")
    )


Status, ErrorInfo = _messages()


def fault_from_wire(fault: error_pb2.FaultReport) -> FaultReport:
    return FaultReport(
        sequence=fault.sequence,
        kernel_name=fault.kernel_name,
        instruction=fault.instruction,
        ptx_line=fault.ptx_line,
        source_file=fault.source_file,
        source_line=fault.source_line,
        program=tuple(fault.program),
        thread=tuple(fault.thread),
        address=fault.address,
        access_bytes=fault.access_bytes,
        space=fault.space,
        is_write=fault.is_write,
        nearest_tensor=fault.nearest_tensor,
        nearest_tensor_offset=fault.nearest_tensor_offset,
        nearest_tensor_bytes=fault.nearest_tensor_bytes,
        message=fault.message,
        other=_other_from_wire(fault.other) if fault.HasField("other") else None,
        trace_end=fault.trace_end,
    )


def _other_from_wire(other: error_pb2.OtherAccess) -> OtherAccess:
    return OtherAccess(
        role=other.role,
        instruction=other.instruction,
        ptx_line=other.ptx_line,
        source_file=other.source_file,
        source_line=other.source_line,
        program=tuple(other.program),
        thread=tuple(other.thread),
    )


def error_of(call: grpc.RpcError, file: str = "") -> TrunError:
    """The exception for a call that failed. Details that do not parse are left out."""
    code = call.code().name if callable(getattr(call, "code", None)) and call.code() else "UNKNOWN"
    message = call.details() if callable(getattr(call, "details", None)) else ""
    reason, details, fault = "", {}, None
    trailers = call.trailing_metadata() if callable(getattr(call, "trailing_metadata", None)) else None
    for key, value in trailers or ():
        if key != _DETAILS_KEY:
            continue
        try:
            status = Status.FromString(value)
            for detail in status.details:
                name = detail.type_url.rpartition("/")[2]
                if name == "google.rpc.ErrorInfo":
                    info = ErrorInfo.FromString(detail.value)
                    if info.domain == _DOMAIN:
                        reason, details = info.reason, dict(info.metadata)
                elif name == "trun.v1.FaultReport":
                    fault = fault_from_wire(error_pb2.FaultReport.FromString(detail.value))
            message = status.message or message
        except Exception as error:
            if type(error).__name__ != "DecodeError":
                raise
    return make_error(
        message or f"the call ended with {code}",
        reason=reason or _REASON_OF_CODE.get(code, "UNSPECIFIED"),
        code=code,
        details=details,
        fault=fault,
        file=file,
    )
