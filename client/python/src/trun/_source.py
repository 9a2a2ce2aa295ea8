"""Source bundles (docs/formats/source-bundle.md): the text of a kernel and of all that it refers to.

The walk is Triton's own dependency walk, made without Triton: names that a function reads are looked up in its closure
and its globals; functions and classes are followed, constants are taken as they are, Triton's names stay names.
"""

from __future__ import annotations

import ast
import builtins
import enum
import inspect
import json
import linecache
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from trun._symbols import Attribute, Call, Inert, Symbol, constexpr, triton_name
from trun.errors import InvalidIrError

FORMAT = 1
# What a kernel's compile-time code may name of the standard library: as in the front end.
_LIBRARY = ("builtins", "collections", "dataclasses", "enum", "functools", "itertools", "math", "operator", "typing")


def refuse(message: str, file: str = "", line: int = 0) -> InvalidIrError:
    details = {"line": str(line)} if line else {}
    return InvalidIrError(message, reason="INVALID_IR", code="INVALID_ARGUMENT", details=details, file=file)


def _is_of_triton(module: str | None) -> bool:
    return module is not None and (module == "triton" or module.startswith("triton."))


def unwrap(function: Any) -> tuple[Any, str] | None:
    """The Python function of a kernel, and "jit" or "gluon"; None for what is none. Real Triton's are taken too."""
    from trun._jit import JITFunction, Wrapper

    while (isinstance(function, Wrapper) and not isinstance(function, JITFunction)) or (
        _is_of_triton(type(function).__module__) and type(function).__name__ in ("Autotuner", "Heuristics")
    ):
        function = function.fn
    if isinstance(function, JITFunction):
        return function.fn, function.kind
    if _is_of_triton(type(function).__module__) and type(function).__name__.endswith("JITFunction"):
        gluon = bool(getattr(function, "is_gluon", lambda: False)())
        return function.fn, "gluon" if gluon else "jit"
    return None


def _source_lines(value: Any) -> tuple[list[str], int, str]:
    """The lines of a function or class, the number of the first one, and their file."""
    try:
        lines, first = inspect.getsourcelines(value)
        return lines, first, inspect.getsourcefile(value) or inspect.getfile(value)
    except (OSError, TypeError) as error:
        cell = _class_in_a_cell(value) if isinstance(value, type) else None
        if cell is not None:
            return cell
        raise refuse(
            f"the source of {getattr(value, '__qualname__', value)} cannot be read: a kernel must stand in a file "
            f"or a notebook's cell ({error})"
        ) from None


def _class_in_a_cell(value: type) -> tuple[list[str], int, str] | None:
    """A class remembers its module only, and a notebook's has no file: it is looked for in the cells."""
    found: dict[str, tuple[list[str], int, str]] = {}
    for file, entry in list(linecache.cache.items()):
        # Cells are what has no time of change.
        if len(entry) != 4 or entry[1] is not None or f"class {value.__name__}" not in "".join(entry[2]):
            continue
        node: ast.AST | None = ast.parse("".join(entry[2]))
        for name in value.__qualname__.split("."):
            if name != "<locals>" and node is not None:
                parts = (n for n in ast.walk(node) if isinstance(n, (ast.ClassDef, ast.FunctionDef)) and n.name == name)
                node = max(parts, key=lambda part: part.lineno, default=None)
        if isinstance(node, ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[file] = (list(entry[2][first - 1 : node.end_lineno]), first, file)
    of_methods = {f.__code__.co_filename for f in vars(value).values() if isinstance(f, types.FunctionType)}
    cells = [cell for file, cell in found.items() if file in of_methods] or list(found.values())
    if len({"".join(lines) for lines, _, _ in cells}) > 1:
        raise refuse(
            f"several cells define {value.__qualname__}, and nothing in it says which of them it is from: put it into "
            "a file, give it another name, or restart the notebook"
        )
    return cells[-1] if cells else None


class _Item:
    """One function or class."""

    def __init__(self, value: Any, kind: str) -> None:
        self.value = value
        self.kind = kind
        lines, first, self.file = _source_lines(value)
        if kind in ("jit", "gluon"):  # its decorators are not sent
            start = next(i for i, line in enumerate(lines) if line.lstrip().startswith("def "))
            lines, first = lines[start:], first + start
        self.source = "".join(lines)
        self.line = first
        self.tree = ast.parse(textwrap.dedent(self.source))

    def names(self) -> tuple[set[str], set[str]]:
        """What it reads from outside: in all, and while it is defined (defaults of its parameters)."""
        definition = self.tree.body[0]
        table = symtable.symtable(textwrap.dedent(self.source), self.file, "exec")
        read: set[str] = set()
        early: set[str] = set()
        if self.kind in ("jit", "gluon"):
            assert isinstance(definition, ast.FunctionDef)
            defaults = [*definition.args.defaults, *(d for d in definition.args.kw_defaults if d is not None)]
            early = {n.id for d in defaults for n in ast.walk(d) if isinstance(n, ast.Name)}
            read |= early
        else:
            read |= {s.get_name() for s in table.get_symbols() if s.is_referenced()}

        def visit(part: symtable.SymbolTable) -> None:
            for symbol in part.get_symbols():
                if symbol.is_global() and symbol.is_referenced():
                    read.add(symbol.get_name())
            for child in part.get_children():
                visit(child)

        for child in table.get_children():
            # From Python 3.14 on annotations have a table of their own; a kernel's are not evaluated.
            if child.get_type() in ("function", "class"):
                visit(child)
        return read, early

    def attributes_of(self, name: str) -> set[tuple[str, ...]]:
        """The attribute chains that it reads of a name: {("helper",)} of `module.helper(x)`."""
        chains = set()
        for node in ast.walk(self.tree):
            chain: list[str] = []
            at: ast.AST = node
            while isinstance(at, ast.Attribute):
                chain.insert(0, at.attr)
                at = at.value
            if chain and isinstance(at, ast.Name) and at.id == name:
                chains.add(tuple(chain))
        return chains


class Collector:
    """Gathers the code and the values of one kernel. `uses` tells later whether a global has changed since."""

    def __init__(self) -> None:
        self.code: list[dict[str, Any]] = []
        self.uses: list[tuple[dict[str, Any], str, Any]] = []
        self._indices: dict[int, int] = {}
        self._held: list[Any] = []  # keeps ids unique

    def kernel(self, function: Callable[..., Any], kind: str) -> int:
        return self._add(function, kind)

    def value(self, given: Any, chains: set[tuple[str, ...]] | None = None) -> Any:
        """`given` as the bundle has it. `chains`: what is read of it, where it is a module."""
        if given is None or isinstance(given, (bool, str)) and not isinstance(given, enum.Enum):
            return given
        if isinstance(given, enum.Enum):
            return {"attribute": given.name, "of": self.value(type(given))}
        if isinstance(given, (int, np.integer)):
            return int(given)
        if isinstance(given, (float, np.floating)):
            return {"float": float(given).hex()}
        if isinstance(given, tuple):
            encoded: dict[str, Any] = {"tuple": [self.value(v) for v in given]}
            if hasattr(given, "_fields"):
                encoded |= {"fields": list(given._fields), "name": type(given).__name__}
            return encoded
        if isinstance(given, list):
            return {"list": [self.value(v) for v in given]}
        if isinstance(given, dict):
            return {"dict": [[self.value(k), self.value(v)] for k, v in given.items()]}
        if isinstance(given, constexpr):
            return {"constexpr": self.value(given.value)}
        if given is constexpr:
            return {"symbol": "triton.language.constexpr"}
        if isinstance(given, Symbol):
            return {"symbol": given.path}
        if isinstance(given, Attribute):
            return {"attribute": given.name, "of": self.value(given.of)}
        if isinstance(given, Call):
            return {
                "call": self.value(given.function),
                "args": [self.value(v) for v in given.args],
                "kwargs": {name: self.value(v) for name, v in given.kwargs.items()},
            }
        if isinstance(given, types.ModuleType):
            return self._module(given, chains or set())
        kernel = unwrap(given)
        if kernel is not None:
            if _is_of_triton(kernel[0].__module__):
                return {"symbol": f"{kernel[0].__module__}.{kernel[0].__qualname__}"}
            return {"code": self._add(*kernel)}
        return self._object(given)

    def _object(self, given: Any) -> Any:
        module = getattr(given, "__module__", None)
        name = getattr(given, "__qualname__", "")
        owner = type(given).__module__
        if _is_of_triton(owner) and not isinstance(given, type):
            # A real Triton is installed here: its values by name, or by what makes them.
            if type(given).__name__ == "constexpr":
                return {"constexpr": self.value(given.value)}
            if type(given).__name__ == "dtype":
                return {"call": {"symbol": "triton.language.dtype"}, "args": [given.name], "kwargs": {}}
            if type(given).__name__ == "ConstexprFunction":
                return {"code": self._add(given.fn, "plain")}
        stands_for = triton_name(module or "") if callable(given) else None
        if (module or "").split(".")[0] == "trun" and name in _PUBLIC:
            return {"symbol": f"triton.{name}"}
        if stands_for is not None:
            return {"symbol": f"{stands_for}.{name}"}
        if (_is_of_triton(module) or module in _LIBRARY) and name and "<" not in name:
            return {"symbol": f"{module}.{name}"}
        if module == "builtins" or any(given is v for v in vars(builtins).values()):
            return {"symbol": f"builtins.{name}"}
        if (
            isinstance(given, (types.FunctionType, type))
            and (module or "").split(".")[0] not in sys.stdlib_module_names
        ):
            return {"code": self._add(inspect.unwrap(given), "plain")}
        return {"opaque": f"{owner}.{type(given).__qualname__}"}

    def _module(self, module: types.ModuleType, chains: set[tuple[str, ...]]) -> Any:
        name = triton_name(module.__name__) or module.__name__
        if _is_of_triton(name) or name in _LIBRARY:
            return {"symbol": name}
        attributes: dict[str, Any] = {}
        for first in sorted({chain[0] for chain in chains}):
            if not hasattr(module, first):
                continue  # the compile says so
            rest = {chain[1:] for chain in chains if chain[0] == first and len(chain) > 1}
            value = getattr(module, first)
            self.uses.append((vars(module), first, value))
            attributes[first] = self.value(value, rest)
        return {"module": module.__name__, "attributes": attributes}

    def _add(self, value: Any, kind: str) -> int:
        if id(value) in self._indices:
            return self._indices[id(value)]
        item = _Item(value, kind)
        index = len(self.code)
        self._indices[id(value)] = index
        self._held.append(value)
        row: dict[str, Any] = {
            "kind": kind,
            "name": value.__name__,
            "qualname": value.__qualname__.rsplit("<locals>.", 1)[-1],
            "module": value.__module__,
            "file": item.file,
            "line": item.line,
            "source": item.source,
            "names": {},
        }
        self.code.append(row)
        read, early = item.names()
        for name in sorted(read):
            found, known = self._look_up(value, name)
            if known:
                row["names"][name] = self.value(found, item.attributes_of(name))
        if kind in ("jit", "gluon"):
            row["defaults_use"] = sorted(early & row["names"].keys())
            row["defaults"] = [self.value(v) for v in value.__defaults__ or ()]
            options = getattr(value, "__trun_jit_options__", None)
            if options:
                row["options"] = options
        return index

    def _look_up(self, value: Any, name: str) -> tuple[Any, bool]:
        if isinstance(value, types.FunctionType) and value.__closure__ is not None:
            for variable, cell in zip(value.__code__.co_freevars, value.__closure__, strict=True):
                if variable == name:
                    try:
                        return cell.cell_contents, True
                    except ValueError:
                        return None, False  # not assigned yet
        scope = value.__globals__ if isinstance(value, types.FunctionType) else vars(sys.modules[value.__module__])
        if name not in scope:
            return None, False
        self.uses.append((scope, name, scope[name]))
        return scope[name], True

    def changed(self) -> str | None:
        """The name of a global that is no longer what it was."""
        for scope, name, value in self.uses:
            now = scope.get(name, _MISSING)
            if now is not value and not _same(now, value):
                return name
        return None


_MISSING = object()
_PUBLIC = ("cdiv", "next_power_of_2", "jit", "constexpr_function", "TensorDescriptor")


def _same(a: Any, b: Any) -> bool:
    if type(a) is not type(b) or not isinstance(a, (int, float, str, tuple, constexpr, Inert)):
        return False
    return bool(a == b)


def encode(bundle: dict[str, Any]) -> bytes:
    return json.dumps(bundle, sort_keys=True, separators=(",", ":")).encode()


def flatten(values: tuple[Any, ...] | list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from flatten(value)
        else:
            yield value
