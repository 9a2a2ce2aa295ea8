"""The arguments of a launch for a kernel that comes from a file: which parameters it has was decided when it was made.

Triton compiles an int that is 1, and None, into the code, and leaves their parameters out. So the same launch has more
parameters or fewer, by the values that the file was made with: passing them in order would shift all that follow.
"""

from __future__ import annotations

import itertools
import numbers
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trun._symbols import constexpr
from trun.errors import TrunError, argument_error
from trun.tensor import Tensor, TensorAt

if TYPE_CHECKING:
    from trun._jit import Bound, Parameter
    from trun.kernel import Argument, Kernel

_MOST_CHOICES = 2000


def is_int(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, (bool, np.bool_))


def is_left_out(value: Any) -> bool:
    return value is None or (is_int(value) and int(value) == 1)


def fits(declared: Argument, value: Any) -> bool:
    if declared.kind == "pointer":
        return value is None or isinstance(value, (np.ndarray, Tensor, TensorAt))
    if declared.kind != "scalar" or isinstance(value, (np.ndarray, Tensor, TensorAt)) or value is None:
        return False
    if declared.dtype[0] in "iu":
        return isinstance(value, (numbers.Integral, np.bool_)) and int(value) % declared.divisibility == 0
    return isinstance(value, (numbers.Real, np.generic))


def arguments_for(kernel: Kernel, parameters: Sequence[Parameter], bound: Bound) -> list[Any]:
    """The values that the file's parameters take. ArgumentError names the argument that does not fit the file."""
    declared = kernel.signature.arguments
    if any(described["kind"] in ("tuple", "descriptor") for described in bound.arguments.values()):
        return bound.runtime  # several parameters each
    given = [
        (parameter.name, bound.values[parameter.name])
        for parameter in parameters
        if not parameter.is_constexpr and not isinstance(bound.values[parameter.name], constexpr)
    ]
    table = dict(given)
    names = [argument.name for argument in declared]
    if all(name in table for name in names):
        for name, value in given:
            if name not in names and not is_left_out(value):
                raise _compiled_in(kernel, [name], table)
        return [table[name] for name in names]
    if len(declared) > len(given):
        return bound.runtime  # its count is refused as that of any launch
    # The file has no names. What can have been left out, first of all what would be left out today.
    out = [name for name, value in given if is_left_out(value)]
    spare = len(given) - len(declared)
    if spare == len(out):
        return [value for name, value in given if name not in out]
    if spare < len(out):
        ways = [set(chosen) for chosen in itertools.islice(itertools.combinations(out, spare), _MOST_CHOICES)]
    else:
        more = [name for name, value in given if is_int(value) and name not in out]
        pairs = itertools.islice(itertools.combinations(more, spare - len(out)), _MOST_CHOICES)
        ways = [{*out, *chosen} for chosen in pairs]
    possible = [way for way in ways if _fit(declared, [value for name, value in given if name not in way])]
    if spare < len(out):
        if len(possible) == 1:
            return [value for name, value in given if name not in possible[0]]
        listed = ", ".join(f"'{name}'" for name in out)
        raise argument_error(
            f"{kernel.name} was made with {spare} of {listed} compiled in as 1, and its file has no names that say "
            "which: give a TTIR or TTGIR of Triton 3.5 or later, or compile it from source"
        )
    suspects = [name for name, value in given if any(name in way for way in possible or ways) and name not in out]
    raise _compiled_in(kernel, suspects, table)


def _fit(declared: Sequence[Argument], values: Sequence[Any]) -> bool:
    return all(fits(argument, value) for argument, value in zip(declared, values, strict=True))


def _compiled_in(kernel: Kernel, names: Sequence[str], values: dict[str, Any]) -> TrunError:
    if len(names) == 1:
        what = f"argument '{names[0]}' is {values[names[0]]!r}, but the file of {kernel.name} has it compiled in (as 1)"
    else:
        listed = ", ".join(f"'{name}' ({values[name]!r})" for name in names)
        what = f"one of {listed} is compiled into the file of {kernel.name} (as 1), and is something else here"
    return argument_error(f"{what}: give a file that was made for this value, or compile the kernel from source")
