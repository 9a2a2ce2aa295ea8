"""The options of a compile: which there are, what was asked for, what the metadata says."""

from __future__ import annotations

import dataclasses
import json
import re
import typing
from pathlib import Path
from typing import Any

from trun_worker.errors import CompileError
from trun_worker.toolchain import Toolchain

# Options that the request says elsewhere, or that would name files of this machine.
FIXED_OPTIONS = {
    "arch": "the target says it",
    "backend_name": "the target says it",
    "ir_override": "send that file as the kernel instead",
}
# Options that are taken from a metadata file where the request does not say them: what the file was made with.
INHERITED_OPTIONS = (
    "num_warps",
    "num_ctas",
    "num_stages",
    "maxnreg",
    "cluster_dims",
    "enable_fp_fusion",
    "enable_reflect_ftz",
    "sched4reg",
    "launch_cooperative_grid",
    "launch_pdl",
    "sanitize_overflow",
    "debug",
)


_fields: dict[type, dict[str, dataclasses.Field[Any]]] = {}  # by backend


def option_fields(backend: Any) -> dict[str, dataclasses.Field[Any]]:
    if type(backend) not in _fields:
        fields = dataclasses.fields(type(backend.parse_options({})))
        _fields[type(backend)] = {field.name: field for field in fields if field.name not in FIXED_OPTIONS}
    return _fields[type(backend)]


def describe_options(backend: Any) -> list[dict[str, str]]:
    """Name, type and default (as it takes effect; Triton's own code overrides some of the declared ones)."""
    effective = backend.parse_options({})
    rows = []
    for name, field in option_fields(backend).items():
        default = getattr(effective, name)
        if not (default is None or isinstance(default, (bool, int, str))):
            default = None if field.default is dataclasses.MISSING else field.default
        text = json.dumps(default, sort_keys=True, separators=(",", ":"), default=str)
        rows.append({"name": name, "type": type_name(field), "default": text})
    return rows


def type_name(field: dataclasses.Field[Any]) -> str:
    """ "int", "bool", "str", "tuple", "dict": of the annotation, else of the default."""
    annotation = field.type
    if isinstance(annotation, str):
        annotation = re.sub(r"^(typing\.)?Optional\[(.*)\]$", r"\2", annotation)
        return re.sub(r"\[.*", "", annotation).split("|")[0].strip().split(".")[-1].lower()
    arguments = [a for a in typing.get_args(annotation) if a is not type(None)]
    origin = typing.get_origin(annotation)
    if origin is typing.Union and arguments:
        annotation, origin = arguments[0], typing.get_origin(arguments[0])
    return getattr(origin or annotation, "__name__", str(annotation)).lower()


def check_option(field: dataclasses.Field[Any], value: Any, root: Path) -> Any:
    """The value as Triton wants it."""
    name, wanted = field.name, type_name(field)
    accepted: dict[str, tuple[type, ...]] = {
        "int": (int,),
        "bool": (bool, int),
        "str": (str,),
        "tuple": (list,),
        "list": (list,),
        "dict": (dict,),
        "float": (int, float),
    }
    types = accepted.get(wanted)
    if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
        raise CompileError(
            "UNKNOWN_OPTION", f"option {name} takes {wanted} values, not {json.dumps(value)}", option=name
        )
    if name == "ptx_options" and "/" in value:
        # ptxas would read or write any file of the daemon's user.
        raise CompileError("UNKNOWN_OPTION", "option ptx_options must not name files", option=name)
    if name == "extern_libs":
        for path in value.values():
            inside = isinstance(path, str) and Path(path).resolve().is_relative_to(root)
            if not inside:
                raise CompileError(
                    "UNKNOWN_OPTION",
                    "option extern_libs may only name libraries of the toolchain itself",
                    option=name,
                )
    return tuple(tuple(v) if isinstance(v, list) else v for v in value) if isinstance(value, list) else value


def choose_options(toolchain: Toolchain, backend: Any, asked: dict[str, Any], given: dict[str, Any]) -> Any:
    known = option_fields(backend)
    for name in asked:
        if name in FIXED_OPTIONS:
            raise CompileError("UNKNOWN_OPTION", f"option {name} cannot be set: {FIXED_OPTIONS[name]}", option=name)
        if name not in known:
            raise CompileError(
                "UNKNOWN_OPTION",
                f"Triton {toolchain.version} has no option '{name}'; it has: {', '.join(sorted(known))}",
                option=name,
            )
    values = {name: given[name] for name in INHERITED_OPTIONS if name in known and given.get(name) is not None}
    values.update({name: value for name, value in asked.items() if value is not None})
    values = {name: check_option(known[name], value, toolchain.root) for name, value in values.items()}
    try:
        return backend.parse_options(values)
    except Exception as error:
        text = str(error) or type(error).__name__
        raise CompileError("UNKNOWN_OPTION", f"Triton {toolchain.version} refuses the options: {text}") from error
