"""From a source bundle (docs/formats/source-bundle.md) to Triton's functions. Runs in the confined child only.

Every function is made from its own text, at its own file and line, with a namespace that holds just the names it uses;
so what a message of Triton says about a place is true of the user's file, which need not exist here.
"""

from __future__ import annotations
import __future__

import ast
import collections
import importlib
import linecache
import sys
import textwrap
import types
from typing import Any

from trun_worker.errors import CompileError

FORMAT = 1
# Where the client's own package has what Triton's has.
ALIASES = (
    ("trun.gluon.language", "triton.experimental.gluon.language"),
    ("trun.gluon", "triton.experimental.gluon"),
    ("trun.language", "triton.language"),
    ("trun", "triton"),
)
# Of the standard library, what a kernel's compile-time code may name.
LIBRARY = ("builtins", "collections", "dataclasses", "enum", "functools", "itertools", "math", "operator", "typing")


class Opaque:
    """A global of the client that has no meaning here: Triton refuses it by name when a kernel uses it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __repr__(self) -> str:
        return f"<{self.kind} of the client>"


def malformed(what: str) -> CompileError:
    return CompileError("INVALID_IR", f"not a source bundle: {what}")


def real_name(path: str) -> str:
    for alias, name in ALIASES:
        if path == alias or path.startswith(alias + "."):
            return name + path[len(alias) :]
    return path


def resolve(path: str) -> Any:
    """The module, function or value that a dotted name of Triton or of the standard library stands for."""
    parts = real_name(path).split(".")
    if parts[0] != "triton" and parts[0] not in LIBRARY:
        raise CompileError("INVALID_IR", f"source may name Triton and {', '.join(LIBRARY)} only, not {path}")
    value: Any = None
    for i, part in enumerate(parts):
        if isinstance(value, types.ModuleType) or value is None:
            module = ".".join(parts[: i + 1])
            if value is not None and hasattr(value, part):
                value = getattr(value, part)
                continue
            try:
                value = importlib.import_module(module)
                continue
            except ModuleNotFoundError as error:
                if error.name != module:
                    raise
        if not hasattr(value, part):
            import triton

            raise CompileError("INVALID_IR", f"Triton {triton.__version__} has no {'.'.join(parts)}")
        value = getattr(value, part)
    return value


class Source:
    """The functions of a bundle, each made when it is first needed."""

    def __init__(self, bundle: dict[str, Any]) -> None:
        if bundle.get("format") != FORMAT:
            raise malformed(f"its format is {bundle.get('format')!r}, this front end reads {FORMAT}")
        self._bundle = bundle
        self._code: list[dict[str, Any]] = bundle.get("code", [])
        self._made: dict[int, Any] = {}
        # Triton's text of a function → (file, line of its first line, columns cut off at the left).
        self.places: dict[str, tuple[str, int, int]] = {}

    def entry(self) -> Any:
        """Triton's function of the kernel."""
        if "text" in self._bundle:
            entry = self._from_text(self._bundle["text"])
        else:
            self._remember_lines()
            entry = self._item(self._bundle["entry"])
        if not hasattr(entry, "arg_names"):
            raise CompileError("INVALID_IR", f"{getattr(entry, '__name__', entry)!s} is no kernel: it has no @jit")
        return entry

    def value(self, encoded: Any) -> Any:
        if encoded is None or isinstance(encoded, (bool, int, str)):
            return encoded
        if not isinstance(encoded, dict):
            raise malformed(f"a value of type {type(encoded).__name__}")
        if "float" in encoded:
            return float.fromhex(encoded["float"])
        if "tuple" in encoded:
            items = [self.value(v) for v in encoded["tuple"]]
            if "fields" in encoded:
                return collections.namedtuple(encoded["name"], encoded["fields"])(*items)
            return tuple(items)
        if "list" in encoded:
            return [self.value(v) for v in encoded["list"]]
        if "dict" in encoded:
            return {self.value(k): self.value(v) for k, v in encoded["dict"]}
        if "constexpr" in encoded:
            return resolve("triton.language.constexpr")(self.value(encoded["constexpr"]))
        if "symbol" in encoded:
            return resolve(encoded["symbol"])
        if "call" in encoded:
            arguments = [self.value(v) for v in encoded["args"]]
            named = {k: self.value(v) for k, v in encoded["kwargs"].items()}
            return self.value(encoded["call"])(*arguments, **named)
        if "attribute" in encoded:
            return getattr(self.value(encoded["of"]), encoded["attribute"])
        if "code" in encoded:
            return self._item(encoded["code"])
        if "module" in encoded:
            module = types.ModuleType(encoded["module"])
            for name, attribute in encoded["attributes"].items():
                setattr(module, name, self.value(attribute))
            return module
        if "opaque" in encoded:
            return Opaque(encoded["opaque"])
        raise malformed(f"a value with the keys {sorted(encoded)}")

    def _remember_lines(self) -> None:
        """Lets inspect find the text of each function where its code says it is."""
        files: dict[str, list[str]] = {}
        for item in self._code:
            lines = item["source"].splitlines(keepends=True)
            known = files.setdefault(item["file"], [])
            known += ["\n"] * (item["line"] - 1 + len(lines) - len(known))
            known[item["line"] - 1 : item["line"] - 1 + len(lines)] = lines
        for file, known in files.items():
            linecache.cache[file] = (sum(map(len, known)), None, known, file)

    def _item(self, index: int) -> Any:
        if index in self._made:
            return self._made[index]
        item = self._code[index]
        scope: dict[str, Any] = {"__name__": item["module"], "__builtins__": __builtins__}
        is_function = item["kind"] in ("jit", "gluon")
        # An annotation may name anything of the client's program; only a class needs its own.
        flags = __future__.annotations.compiler_flag if is_function else 0
        text = "\n" * (item["line"] - 1) + textwrap.dedent(item["source"])
        if not is_function:
            self._fill(scope, item)
        names_of_defaults = item.get("defaults_use", [])
        for name in names_of_defaults:
            scope[name] = self.value(item["names"][name])
        exec(compile(text, item["file"], "exec", flags, True), scope)
        made = scope[item["name"]]
        made.__qualname__ = item["qualname"]
        made = self._wrap(item, made)
        self._made[index] = made
        scope[item["name"]] = made
        if is_function:  # after it is known: it may call itself
            self._fill(scope, item)
        return made

    def _fill(self, scope: dict[str, Any], item: dict[str, Any]) -> None:
        for name, encoded in item["names"].items():
            scope[name] = self.value(encoded)

    def _wrap(self, item: dict[str, Any], made: Any) -> Any:
        if item["kind"] == "plain":
            return made
        if item["kind"] == "decorated":
            return self.value(item["decorator"])(made)
        if "defaults" in item:
            made.__defaults__ = tuple(self.value(v) for v in item["defaults"]) or None
        return self.jit(made, item["kind"] == "gluon", item.get("options", {}))

    def jit(self, function: Any, is_gluon: bool, options: dict[str, Any]) -> Any:
        decorator = resolve("triton.experimental.gluon.jit" if is_gluon else "triton.jit")
        made = decorator(**options)(function) if options else decorator(function)
        raw = "".join(linecache.getlines(function.__code__.co_filename)[function.__code__.co_firstlineno - 1 :])
        indent = len(raw) - len(raw.lstrip(" \t"))
        text = made.src if hasattr(made, "src") else made._src
        self.places[text] = (function.__code__.co_filename, function.__code__.co_firstlineno, indent)
        return made

    # A whole file: only the statements that the kernel needs are run.

    def _from_text(self, given: dict[str, Any]) -> Any:
        file, text, wanted = given["file"], given["source"], given["function"]
        lines = text.splitlines(keepends=True)
        linecache.cache[file] = (len(text), None, lines, file)
        self._alias_modules()
        try:
            body = ast.parse(text, file).body
        except (ValueError, SyntaxError) as error:
            if getattr(error, "filename", None) == file:
                raise
            # A null byte: which error it is differs by Python's version, and none says where, nor in which file.
            raise CompileError("INVALID_IR", f"{file}: {error}", file=file) from error
        binders: dict[str, list[int]] = {}
        for i, statement in enumerate(body):
            for name in _bound(statement):
                binders.setdefault(name, []).append(i)
        if wanted not in binders:
            kernels = [s.name for s in body if isinstance(s, ast.FunctionDef) and _jit_decorator(s) is not None]
            raise CompileError(
                "INVALID_IR", f"{file} has no function '{wanted}'; its kernels are {', '.join(kernels) or '(none)'}"
            )
        needed: set[int] = set()
        names = [wanted]
        while names:
            for i in binders.get(names.pop(), []):
                if i not in needed:
                    needed.add(i)
                    names += _used(body[i])
        scope: dict[str, Any] = {"__name__": "kernels", "__file__": file, "__builtins__": __builtins__}
        for i in sorted(needed):
            statement = body[i]
            decorator = _jit_decorator(statement) if isinstance(statement, ast.FunctionDef) else None
            if decorator is None:
                exec(compile(ast.Module([statement], []), file, "exec", dont_inherit=True), scope)
                continue
            assert isinstance(statement, ast.FunctionDef)
            statement.decorator_list = []
            exec(compile(ast.Module([statement], []), file, "exec", dont_inherit=True), scope)
            function = scope[statement.name]
            # Autotuners and heuristics choose among what is compiled: nothing of them is here.
            is_gluon = "gluon" in ast.unparse(decorator)
            options = {}
            if isinstance(decorator, ast.Call):
                options = {k.arg: ast.literal_eval(k.value) for k in decorator.keywords if k.arg == "noinline"}
            scope[statement.name] = self.jit(function, is_gluon, options)
        return scope[wanted]

    @staticmethod
    def _alias_modules() -> None:
        for alias, name in ALIASES:
            try:
                sys.modules[alias] = importlib.import_module(name)
            except ModuleNotFoundError:
                continue  # a Triton before Gluon


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement of a module's top level gives a value."""
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return {statement.name}
    found: set[str] = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.alias):
            found.add(node.asname or node.name.split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
    return found


def _used(statement: ast.stmt) -> set[str]:
    parts: list[ast.AST] = [statement]
    if isinstance(statement, ast.FunctionDef) and _jit_decorator(statement) is not None:
        parts = [statement.args, *statement.body]  # its decorators are not run
    return {n.id for part in parts for n in ast.walk(part) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}


def _jit_decorator(function: ast.FunctionDef) -> ast.expr | None:
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if name == "jit":
            return decorator
    return None
