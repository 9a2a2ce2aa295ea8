"""Writes goldens.txt: what conversions and float operations must give, as hashes over many operands.

The answers come from two places that share no code with the emulator: NumPy and ml_dtypes where they define the
operation (rounding to nearest), and exact rational arithmetic for everything else. Run with a Python that has numpy
and ml_dtypes:  python generate_goldens.py > goldens.txt
"""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import ml_dtypes
import numpy as np

MASK = (1 << 64) - 1
RANDOM_CASES = 4096


@dataclass(frozen=True)
class Format:
    """A binary floating-point format."""

    exponent: int
    mantissa: int
    bias: int
    max_finite: int
    infinity: int | None
    nan: int | None

    @property
    def sign(self) -> int:
        return 1 << (self.exponent + self.mantissa)


FORMATS = {
    "f16": Format(5, 10, 15, 0x7BFF, 0x7C00, 0x7FFF),
    "bf16": Format(8, 7, 127, 0x7F7F, 0x7F80, 0x7FFF),
    "f32": Format(8, 23, 127, 0x7F7FFFFF, 0x7F800000, 0x7FFFFFFF),
    "f64": Format(11, 52, 1023, 0x7FEFFFFFFFFFFFFF, 0x7FF0000000000000, 0xFFF8000000000000),
    "e4m3": Format(4, 3, 7, 0x7E, None, 0x7F),
    "e5m2": Format(5, 2, 15, 0x7B, 0x7C, 0x7F),
    "e2m1": Format(2, 1, 1, 0x7, None, None),
    "e2m3": Format(2, 3, 1, 0x1F, None, None),
    "e3m2": Format(3, 2, 3, 0x1F, None, None),
    "tf32": Format(8, 10, 127, 0x3FBFF, 0x3FC00, 0x3FFFF),
}
BITS = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64, "e4m3": 8, "e5m2": 8, "e2m1": 4, "e2m3": 6, "e3m2": 6}
INTEGERS = {f"{s}{b}": (s == "s", b) for s in "su" for b in (8, 16, 32, 64)}


class Random:
    """splitmix64; the test has the same."""

    def __init__(self, seed: int) -> None:
        self.state = seed

    def next(self) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)


def edges(kind: str) -> list[int]:
    """Operands that go wrong first, as bits."""
    if kind in INTEGERS:
        bits = INTEGERS[kind][1]
        top = 1 << (bits - 1)
        return [0, 1, 2, 3, top - 1, top, top + 1, (1 << bits) - 1, (1 << bits) - 2, 2049 % (1 << bits), 0x55]
    f = FORMATS[kind]
    one = f.bias << f.mantissa
    lowest = 1 << f.mantissa
    inf = f.infinity or f.max_finite
    base = [0, 1, 2, 3, lowest - 1, lowest, lowest + 1, one, one + 1, one - 1, one + lowest, f.max_finite, inf]
    base += [f.max_finite - 1, f.nan or f.max_finite, inf + 1 if f.infinity else 0, one - lowest, one + (lowest >> 1)]
    return base + [b | f.sign for b in base]


def operands(kind: str, seed: int) -> Iterator[int]:
    """RANDOM_CASES operands: edges, near-integers and random bits."""
    bits = INTEGERS[kind][1] if kind in INTEGERS else BITS[kind]
    special = edges(kind)
    random = Random(seed)
    for _ in range(RANDOM_CASES):
        r = random.next()
        if r & 3 == 0:
            yield special[(r >> 2) % len(special)]
        elif r & 3 == 1 and kind not in INTEGERS:
            f = FORMATS[kind]
            # an exponent near that of 1, so that sums cancel and conversions land inside every range
            exponent = f.bias + (r >> 2) % 24 - 12 if f.exponent > 4 else (r >> 2) % (1 << f.exponent)
            mantissa = (r >> 8) & ((1 << f.mantissa) - 1)
            if r >> 63:
                mantissa &= ~((1 << (f.mantissa // 2)) - 1)
            yield ((r >> 62) & 1) * f.sign | max(exponent, 0) << f.mantissa | mantissa
        else:
            yield (r >> 2 if bits <= 32 else random.next()) & ((1 << bits) - 1)


def every(kind: str) -> Iterator[int]:
    """All values of a type of up to 16 bits, otherwise operands of it."""
    bits = INTEGERS[kind][1] if kind in INTEGERS else BITS[kind]
    return iter(range(1 << bits)) if bits <= 16 else operands(kind, 1)


Value = Fraction | str  # "nan", "+inf", "-inf", "-0"


def decode(f: Format, bits: int) -> Value:
    negative = bool(bits & f.sign)
    magnitude = bits & (f.sign - 1)
    if magnitude > f.max_finite:
        if magnitude == f.infinity:
            return "-inf" if negative else "+inf"
        return "nan"
    if magnitude == 0:
        return "-0" if negative else Fraction(0)
    biased = magnitude >> f.mantissa
    fraction = magnitude & ((1 << f.mantissa) - 1)
    if biased:
        fraction |= 1 << f.mantissa
    scale = max(biased, 1) - f.bias - f.mantissa
    value = Fraction(fraction) * (Fraction(2) ** scale)
    return -value if negative else value


def round_integer(value: Fraction, mode: str) -> int:
    low = value.numerator // value.denominator
    rest = value - low
    if rest == 0:
        return low
    if mode == "rm":
        return low
    if mode == "rp":
        return low + 1
    if mode == "rz":
        return low if value > 0 else low + 1
    if rest != Fraction(1, 2):
        return low + (rest > Fraction(1, 2))
    if mode == "rna":
        return low + 1 if value > 0 else low
    return low + (low & 1)


def encode(f: Format, value: Value, mode: str, satfinite: bool = False) -> int:
    if value == "nan":
        return f.nan if f.nan is not None else f.max_finite
    if value == "-0":
        return f.sign
    if value in ("+inf", "-inf"):
        sign = f.sign if value == "-inf" else 0
        return sign | (f.max_finite if satfinite or f.infinity is None else f.infinity)
    assert isinstance(value, Fraction)
    if value == 0:
        return 0
    sign = f.sign if value < 0 else 0
    exponent = max(abs(value).numerator.bit_length() - abs(value).denominator.bit_length(), -5000)
    if Fraction(2) ** exponent > abs(value):
        exponent -= 1
    exponent = max(exponent, 1 - f.bias)
    unit = Fraction(2) ** (exponent - f.mantissa)
    units = abs(round_integer(value / unit, mode))
    magnitude = ((exponent + f.bias - 1) << f.mantissa) + units
    if magnitude <= f.max_finite:
        return sign | magnitude
    finite = mode == "rz" or (mode == "rm" and not sign) or (mode == "rp" and bool(sign))
    return sign | (f.max_finite if finite or satfinite or f.infinity is None else f.infinity)


def flush(f: Format, bits: int) -> int:
    return bits & f.sign if bits & (f.sign - 1) < 1 << f.mantissa else bits


def nan_for(to: str, source: str, mode: str, flags: set[str], bits: int) -> int:
    """What an H200 makes of a NaN: canonical, but for f64, bf16 to f32 and tf32."""
    if source == "bf16" and to == "f32":
        return bits << 16
    if to == "tf32":
        return bits & 0xFFFFE000 if mode == "rna" else 0x7FFFE000
    if to == "f64" and source == "f32" and "ftz" in flags:
        return 0x7FFFFFFFE0000000
    f, g = FORMATS[to], FORMATS[source]
    if "f64" not in (to, source) or f.infinity is None:
        return encode(f, "nan", mode)
    payload = (bits & ((1 << g.mantissa) - 1)) << 52 >> g.mantissa >> (52 - f.mantissa)
    return (f.sign if bits & g.sign else 0) | f.infinity | 1 << (f.mantissa - 1) | payload


def convert(to: str, source: str, mode: str, flags: set[str], bits: int) -> int:
    if source in INTEGERS:
        signed, width = INTEGERS[source]
        number = bits - (1 << width) if signed and bits >> (width - 1) else bits
        value: Value = Fraction(number)
    else:
        f = FORMATS[source]
        value = decode(f, flush(f, bits) if "ftz" in flags and source == "f32" else bits)
    if to in INTEGERS:
        signed, width = INTEGERS[to]
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, (1 << width) - 1)
        if value == "nan":
            number = 1 << (width - 1) if source == "f64" or width == 64 else 0
        elif value in ("+inf", "-inf"):
            number = high if value == "+inf" else low
        else:
            number = 0 if value == "-0" else round_integer(value, mode)  # type: ignore[arg-type]
            if source not in INTEGERS or "sat" in flags:
                number = min(max(number, low), high)
        out = number & ((1 << width) - 1)
        if to == "s8" and out & 0x80:
            out |= 0xFFFFFF00
        return out
    f = FORMATS[to]
    if "integral" in flags and isinstance(value, Fraction):
        rounded = round_integer(value, mode)
        value = "-0" if rounded == 0 and value < 0 else Fraction(rounded)
    if value == "nan" and "sat" not in flags:
        return nan_for(to, source, mode, flags, bits)
    out = encode(f, value, mode, "satfinite" in flags)
    if "ftz" in flags and to == "f32":
        out = flush(f, out)
    if "sat" in flags:
        one = f.bias << f.mantissa
        out = 0 if out & f.sign or value == "nan" else min(out, one)
    if "relu" in flags and out & f.sign and value != "nan":
        out = 0
    return out << 13 if to == "tf32" else out


def arithmetic(op: str, f: Format, mode: str, flags: set[str], a: int, b: int, c: int) -> int:
    if "ftz" in flags:
        a, b, c = flush(f, a), flush(f, b), flush(f, c)
    if op == "sub":
        b, op = b if decode(f, b) == "nan" else b ^ f.sign, "add"
    x, y, z = decode(f, a), decode(f, b), decode(f, c)
    exact = compute(op, x, y, z, mode, f)
    if exact == "nan" and f.mantissa == 52:  # b, c or a (of a quotient a or b), made quiet
        orders = {"fma": ((b, y), (c, z), (a, x)), "sqrt": ((a, x),), "rcp": ((a, x),), "div": ((a, x), (b, y))}
        used = orders.get(op, ((b, y), (a, x)))
        nans = [bits for bits, v in used if v == "nan"]
        return nans[0] | 1 << 51 if nans else f.nan  # type: ignore[return-value]
    out = encode(f, exact, mode)
    if "ftz" in flags:
        wide = Format(f.exponent, f.mantissa, f.bias + 100, f.max_finite, f.infinity, f.nan)
        tiny = isinstance(exact, Fraction) and exact != 0 and abs(exact) < Fraction(2) ** (1 - f.bias)
        if tiny:  # as if the exponent had no lower bound
            rounded = encode(wide, abs(exact), mode if exact > 0 else {"rm": "rp", "rp": "rm"}.get(mode, mode))
            tiny = rounded < (wide.bias + 1 - f.bias) << f.mantissa
        out = out & f.sign if tiny else flush(f, out)
    is_nan = out & (f.sign - 1) > (f.infinity or 0)
    if "sat" in flags:
        return 0 if out & f.sign or is_nan else min(out, f.bias << f.mantissa)
    if "relu" in flags and out & f.sign and not is_nan:
        return 0
    return out


def negative(value: Value) -> bool:
    return value in ("-0", "-inf") if isinstance(value, str) else value < 0


def compute(op: str, x: Value, y: Value, z: Value, mode: str, f: Format) -> Value:
    """The exact value, or for roots and quotients one that rounds as the exact one does."""
    if op == "fma":
        product = compute("mul", x, y, z, mode, f)
        return compute("add", product, z, z, mode, f)
    if "nan" in (x, y) and op not in ("sqrt", "rcp") or x == "nan":
        return "nan"
    sign = negative(x) != negative(y)
    infinite_x, infinite_y = x in ("+inf", "-inf"), y in ("+inf", "-inf")
    zero = lambda v: v in (0, "-0")  # noqa: E731
    number = lambda v: Fraction(0) if v == "-0" else v  # noqa: E731
    if op == "add":
        if infinite_x or infinite_y:
            return "nan" if infinite_x and infinite_y and x != y else (x if infinite_x else y)
        total = number(x) + number(y)
        if total != 0:
            return total
        if zero(x) and zero(y) and negative(x) == negative(y):
            return x
        return "-0" if mode == "rm" else Fraction(0)
    if op == "mul":
        if infinite_x or infinite_y:
            return "nan" if zero(x) or zero(y) else ("-inf" if sign else "+inf")
        if zero(x) or zero(y):
            return "-0" if sign else Fraction(0)
        return x * y  # type: ignore[operator]
    if op == "rcp":
        return compute("div", Fraction(1), x, z, mode, f)
    if op == "div":
        if infinite_x:
            return "nan" if infinite_y else ("-inf" if sign else "+inf")
        if zero(y):
            return "nan" if zero(x) else ("-inf" if sign else "+inf")
        if infinite_y or zero(x):
            return "-0" if sign else Fraction(0)
        return x / y  # type: ignore[operator]
    assert op == "sqrt"
    if zero(x) or x == "+inf":
        return x
    if negative(x):
        return "nan"
    assert isinstance(x, Fraction)
    shift = 240 if f.mantissa < 52 else 1200
    scaled = x.numerator * (1 << (2 * shift)) // x.denominator
    root = int(scaled) and math.isqrt(scaled)
    exact = root * root == scaled and x.numerator * (1 << (2 * shift)) % x.denominator == 0
    return Fraction(2 * root + (not exact), 1 << (shift + 1))


def check_against_numpy() -> None:
    """The rational arithmetic above agrees with NumPy and ml_dtypes wherever those say something."""
    dtypes = {"f16": np.float16, "bf16": ml_dtypes.bfloat16}
    dtypes |= {"e5m2": ml_dtypes.float8_e5m2, "e4m3": ml_dtypes.float8_e4m3fn}
    views = {16: np.uint16, 8: np.uint8}
    sources = np.array(list(operands("f32", 11)), dtype=np.uint32)
    floats = sources.view(np.float32)
    for name, dtype in dtypes.items():
        f = FORMATS[name]
        with np.errstate(all="ignore"):
            theirs = floats.astype(dtype).view(views[BITS[name]])
        for bits, value, their in zip(sources.tolist(), floats.tolist(), theirs.tolist(), strict=True):
            mine = convert(name, "f32", "rn", set(), bits)
            if name == "e4m3" and abs(value) > 464:  # ml_dtypes overflows to NaN where PTX always saturates
                continue
            if mine != their and not (mine & (f.sign - 1)) > f.max_finite:
                raise AssertionError((name, hex(bits), hex(mine), hex(their)))
    for name in ("f16", "bf16"):
        a = np.array(list(operands(name, 3)), dtype=np.uint16)
        b = np.array(list(operands(name, 4)), dtype=np.uint16)
        dtype = dtypes[name]
        for op, function in (("add", np.add), ("mul", np.multiply), ("sub", np.subtract)):
            with np.errstate(all="ignore"):
                theirs = function(a.view(dtype), b.view(dtype)).view(np.uint16)
            for x, y, their in zip(a.tolist(), b.tolist(), theirs.tolist(), strict=True):
                mine = arithmetic(op, FORMATS[name], "rn", set(), x, y, 0)
                if mine != their and mine != 0x7FFF:
                    raise AssertionError((name, op, hex(x), hex(y), hex(mine), hex(their)))
    for x in operands("f64", 9):
        theirs64 = np.frombuffer(struct.pack("<Q", x), dtype=np.float64)
        with np.errstate(all="ignore"):
            their = int(theirs64.astype(np.float16).view(np.uint16)[0])
        mine = convert("f16", "f64", "rn", set(), x)
        if mine != their and mine & 0x7FFF <= 0x7C00:
            raise AssertionError(("f64 to f16", hex(x), hex(mine), hex(their)))


def hashes(values: Iterator[int], block: int) -> str:
    out, state, count = [], 0xCBF29CE484222325, 0
    for value in values:
        state = ((state ^ value) * 0x100000001B3) & MASK
        count += 1
        if count % block == 0:
            out.append(f"{state:016x}")
            state = 0xCBF29CE484222325
    if count % block:
        out.append(f"{state:016x}")
    return " ".join(out)


def block_of(kind: str) -> int:
    return 4096 if kind not in INTEGERS and BITS[kind] <= 16 or kind in INTEGERS and INTEGERS[kind][1] <= 16 else 256


def emit_conversion(to: str, source: str, mode: str, *flags: str) -> None:
    values = (convert(to, source, mode, set(flags), bits) for bits in every(source))
    print(f"cvt {to} {source} {mode} {','.join(flags) or '-'} {hashes(values, block_of(source))}")


def emit_operation(op: str, kind: str, mode: str, *flags: str) -> None:
    f = FORMATS[kind]
    streams = zip(operands(kind, 1), operands(kind, 2), operands(kind, 3), strict=True)
    values = (arithmetic(op, f, mode, set(flags), a, b, c) for a, b, c in streams)
    print(f"op {op} {kind} {mode} {','.join(flags) or '-'} {hashes(values, 256)}")


def main() -> None:
    check_against_numpy()
    directed = ("rn", "rz", "rm", "rp")
    narrow: Callable[[str], bool] = lambda t: BITS[t] < 16  # noqa: E731
    for source in ("f16", "bf16", "f32", "f64"):
        for to in ("f16", "bf16", "f32", "f64"):
            if to == source:
                for mode in directed:
                    emit_conversion(to, source, mode, "integral")
            elif BITS[to] > BITS[source]:
                emit_conversion(to, source, "rn")
                emit_conversion(to, source, "rn", "sat")
            else:
                for mode in directed:
                    emit_conversion(to, source, mode)
                emit_conversion(to, source, "rn", "sat")
        for to in INTEGERS:
            for mode in directed:
                emit_conversion(to, source, mode)
    for flags in (("ftz",), ("ftz", "sat"), ("ftz", "integral")):
        emit_conversion("f32", "f64" if "integral" not in flags else "f32", "rn", *flags)
    emit_conversion("s32", "f32", "rp", "ftz")
    for source in INTEGERS:
        for to in ("f16", "bf16", "f32", "f64"):
            for mode in directed:
                emit_conversion(to, source, mode)
        for to in INTEGERS:
            emit_conversion(to, source, "rn")
            emit_conversion(to, source, "rn", "sat")
    for to in ("e4m3", "e5m2", "e2m1", "e2m3", "e3m2"):
        assert narrow(to)
        for flags in (("satfinite",), ("satfinite", "relu")):
            emit_conversion(to, "f32", "rn", *flags)
            emit_conversion(to, "f16", "rn", *flags)
        emit_conversion("f16", to, "rn")
        emit_conversion("f16", to, "rn", "relu")
    for to in ("f16", "bf16"):
        for mode in ("rn", "rz"):
            for flags in (("relu",), ("satfinite",), ("relu", "satfinite")):
                emit_conversion(to, "f32", mode, *flags)
    for mode in ("rna", "rn", "rz"):
        emit_conversion("tf32", "f32", mode)
        emit_conversion("tf32", "f32", mode, "relu")
        emit_conversion("tf32", "f32", mode, "satfinite")
    for op in ("add", "sub", "mul", "fma"):
        for kind in ("f32", "f64"):
            for mode in directed:
                emit_operation(op, kind, mode)
                if kind == "f32":
                    emit_operation(op, kind, mode, "ftz")
                    emit_operation(op, kind, mode, "ftz", "sat")
                    emit_operation(op, kind, mode, "sat")
        emit_operation(op, "f16", "rn")
        emit_operation(op, "f16", "rn", "ftz")
        emit_operation(op, "f16", "rn", "sat")
        emit_operation(op, "bf16", "rn")
    emit_operation("fma", "f16", "rn", "relu")
    emit_operation("fma", "bf16", "rn", "relu")
    for op in ("div", "sqrt", "rcp"):
        for kind in ("f32", "f64"):
            for mode in directed:
                emit_operation(op, kind, mode)
                if kind == "f32":
                    emit_operation(op, kind, mode, "ftz")


if __name__ == "__main__":
    sys.exit(main())
