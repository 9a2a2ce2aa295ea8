"""Inert names of Triton: what a kernel's source refers to, resolved by the Triton of the daemon's choice.

`tl.float32`, `gl.BlockedLayout([1], [32], [4], [0])` and so on are only remembered here, by name and arguments; nothing
of Triton runs in the client. A name that no known version has is an AttributeError, as with Triton itself; of the
module that Meta's fork adds (trun.language.extra.tlx) every name is taken, and the daemon's Triton has it or says no.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from trun._names import NAMES

# The package of trun → the module of Triton that it stands for.
PACKAGES = {
    "trun.language": "triton.language",
    "trun.gluon.language": "triton.experimental.gluon.language",
    "trun.gluon": "triton.experimental.gluon",
}

# Modules of forks of Triton, which a daemon may have adopted: any name may be one of theirs.
FORKS = ("triton.language.extra.tlx",)


class Inert:
    """Something that only the daemon's Triton can evaluate. Equal when written alike. What is made of it is inert."""

    def _key(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Inert) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(repr(self))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Attribute(self, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return Call(self, args, kwargs)


class Symbol(Inert):
    """A name of Triton: Symbol("triton.language.float32")."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _key(self) -> tuple[Any, ...]:
        return ("symbol", self.path)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Symbol(f"{self.path}.{name}")

    def __repr__(self) -> str:
        return self.path


class Call(Inert):
    """A call of an inert value: a layout, a dtype made from its name."""

    def __init__(self, function: Inert, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.function, self.args, self.kwargs = function, args, kwargs

    def _key(self) -> tuple[Any, ...]:
        return ("call", self.function, self.args, tuple(sorted(self.kwargs.items())))

    def __repr__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.function!r}({', '.join([*map(repr, self.args), *named])})"


class Attribute(Inert):
    """An attribute of the result of an inert call."""

    def __init__(self, of: Inert, name: str) -> None:
        self.of, self.name = of, name

    def _key(self) -> tuple[Any, ...]:
        return ("attribute", self.of, self.name)

    def __repr__(self) -> str:
        return f"{self.of!r}.{self.name}"


class constexpr:
    """A value known when a kernel is compiled: of a global that kernels read, and as an annotation of a parameter."""

    def __init__(self, value: Any) -> None:
        self.value: Any = value.value if isinstance(value, constexpr) else value

    def __repr__(self) -> str:
        return f"constexpr[{self.value!r}]"

    def __index__(self) -> int:
        return int(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __float__(self) -> float:
        return float(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __eq__(self, other: object) -> bool:
        return bool(self.value == (other.value if isinstance(other, constexpr) else other))

    def __hash__(self) -> int:
        return hash(self.value)


def _operator(name: str) -> Any:
    def apply(self: constexpr, other: Any) -> constexpr:
        left, right = self.value, other.value if isinstance(other, constexpr) else other
        if name.startswith("__r"):
            left, right, plain = right, left, name.replace("__r", "__", 1)
        else:
            plain = name
        import operator

        return constexpr(getattr(operator, plain)(left, right))

    return apply


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
    setattr(constexpr, f"__{_name}__", _operator(f"__{_name}__"))
    setattr(constexpr, f"__r{_name}__", _operator(f"__r{_name}__"))


def triton_name(module: str) -> str | None:
    """The module of Triton that a module of this package stands for."""
    if module == "trun":
        return "triton"
    for package, name in PACKAGES.items():
        if module == package or module.startswith(package + "."):
            return name + module[len(package) :]
    return None


def lookup(module: str, name: str) -> Any:
    """The attribute `name` of a module of this package that stands for one of Triton."""
    path = triton_name(module)
    assert path is not None
    if path == "triton.language" and name == "constexpr":
        return constexpr
    if path == "triton.experimental.gluon.language" and name == "constexpr":
        return constexpr
    submodule = f"{module}.{name}"
    if submodule in sys.modules:
        return sys.modules[submodule]
    if path not in FORKS and name not in NAMES[path].split():
        raise AttributeError(f"no Triton from 3.0 to 3.9 has {path}.{name} ({module!r} stands for {path})")
    return Symbol(f"{path}.{name}")


class SymbolModule(types.ModuleType):
    """A module below trun.language or trun.gluon that has no file of its own."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lookup(self.__name__, name)

    def __dir__(self) -> list[str]:
        return names_of(self.__name__)


def names_of(module: str) -> list[str]:
    path = triton_name(module)
    return sorted(NAMES[path].split()) if path in NAMES else []


def register_submodules(package: str) -> None:
    """Makes `import trun.language.extra.libdevice` work: its parent is imported first, and calls this."""
    root = PACKAGES[package]
    for path in (*NAMES, *FORKS):
        if not path.startswith(root + "."):
            continue
        name = package + path[len(root) :]
        if name not in sys.modules and name not in PACKAGES:
            sys.modules[name] = SymbolModule(name)
