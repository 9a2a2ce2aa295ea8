"""Elementwise cases: arithmetic, the mathematical functions of libdevice, casts, over all types."""

from __future__ import annotations

from collections.abc import Iterator

from corpus_cases import FLOATS, INTEGERS, Case, Expression, elementwise, limits


def arithmetic_of_integers(kind: str) -> Case:
    inputs = (("x", kind, "any"), ("y", kind, "any"), ("d", kind, "nonzero"), ("s", kind, "shift"))
    e = [Expression(f"x {op} y", f"x {op} y", kind) for op in ("+", "-", "*", "&", "|", "^")]
    e += [
        Expression("x // d", "F.truncated_division(x, d)", kind),
        Expression("x % d", "F.remainder(x, d)", kind),
        Expression("x << s", "F.shift_left(x, s)", kind),
        Expression("x >> s", "x >> s", kind),
        Expression("~x", "~x", kind),
        Expression("tl.minimum(x, y)", "np.minimum(x, y)", kind),
        Expression("tl.maximum(x, y)", "np.maximum(x, y)", kind),
        Expression("tl.where(x > y, x, y - 1)", "np.where(x > y, x, y - np.array(1, y.dtype))", kind),
        Expression("tl.cdiv(s, d)", "", kind),
    ]
    e += [Expression(f"x {op} y", f"x {op} y", "i32") for op in ("==", "!=", "<", "<=", ">", ">=")]
    if kind[0] == "i":
        e += [Expression("-x", "-x", kind), Expression("tl.abs(x)", "np.abs(x)", kind)]
    if kind in ("i32", "u32", "i64", "u64"):
        e.append(Expression("tl.umulhi(x, y)", "F.high_product(x, y)", "u" + kind[1:]))
    return elementwise(f"arithmetic_{kind}", inputs, e)


def arithmetic_of_floats(kind: str) -> Case:
    inputs = (("x", kind, "float"), ("y", kind, "float"), ("z", kind, "float"), ("p", kind, "positive"))
    e = [Expression(f"x {op} y", f"x {op} y", kind) for op in ("+", "-", "*", "/")]
    e += [
        Expression("-x", "-x", kind),
        Expression("tl.abs(x)", "np.abs(x)", kind),
        Expression("tl.minimum(x, y)", "np.fmin(x, y)", kind),
        Expression("tl.maximum(x, y)", "np.fmax(x, y)", kind),
        Expression("tl.minimum(x, y, propagate_nan=tl.PropagateNan.ALL)", "np.minimum(x, y)", kind),
        Expression("tl.maximum(x, y, propagate_nan=tl.PropagateNan.ALL)", "np.maximum(x, y)", kind),
        Expression("tl.clamp(x, -tl.abs(y), tl.abs(z))", "np.fmin(np.fmax(x, -np.abs(y)), np.abs(z))", kind),
        Expression("tl.fma(x, y, z)", "F.fma(x, y, z)", kind),
        Expression("x * y + z", "" if kind == "bf16" else "F.fma(x, y, z)", kind),
        Expression("tl.where(x > y, x, z)", "np.where(x > y, x, z)", kind),
    ]
    e += [Expression(f"x {op} y", f"x {op} y", "i32") for op in ("==", "!=", "<", "<=", ">", ">=")]
    if kind in ("fp32", "fp64"):
        e += [Expression(f"tl.{op}(x)", f"np.{op}(x)", kind, tolerance=2e-5) for op in ("exp", "exp2", "floor", "ceil")]
        e += [Expression(f"tl.{op}(p)", f"np.{op}(p)", kind, tolerance=2e-5) for op in ("log", "log2", "sqrt")]
        e += [Expression(f"tl.{op}(x)", f"np.{op}(x)", kind, tolerance=1e-4) for op in ("sin", "cos")]
        e += [
            Expression("tl.rsqrt(p)", "1 / np.sqrt(p)", kind),
            Expression("tl.erf(x)", "F.erf(x)", kind, tolerance=1e-5),
            Expression("tl.sigmoid(x)", "1 / (1 + np.exp(-x))", kind, tolerance=1e-5),
            Expression("x % y", "", kind),
        ]
    if kind == "fp32":
        e += [
            Expression("tl.sqrt_rn(p)", "np.sqrt(p)", kind, tolerance=0),
            Expression("tl.div_rn(x, y)", "x / y", kind, tolerance=0),
            Expression("tl.fdiv(x, y)", "x / y", kind),
        ]
    return elementwise(f"arithmetic_{kind}", inputs, e)


# Name → NumPy's text ("" where it has none). Arguments x, y, z: floats, p: positive, u: -1 … 1, k: small integers.
UNARY = {
    "abs(x)": "np.abs(x)",
    "ceil(x)": "np.ceil(x)",
    "floor(x)": "np.floor(x)",
    "trunc(x)": "np.trunc(x)",
    "rint(x)": "np.rint(x)",
    "nearbyint(x)": "np.rint(x)",
    "round(x)": "np.trunc(x + np.copysign(0.5, x))",
    "sqrt(p)": "np.sqrt(p)",
    "rsqrt(p)": "1 / np.sqrt(p)",
    "cbrt(x)": "np.cbrt(x)",
    "rcbrt(p)": "1 / np.cbrt(p)",
    "exp(x)": "np.exp(x)",
    "exp2(x)": "np.exp2(x)",
    "exp10(u)": "np.power(10.0, u)",
    "expm1(x)": "np.expm1(x)",
    "log(p)": "np.log(p)",
    "log2(p)": "np.log2(p)",
    "log10(p)": "np.log10(p)",
    "log1p(p)": "np.log1p(p)",
    "logb(p)": "np.floor(np.log2(p))",
    "sin(x)": "np.sin(x)",
    "cos(x)": "np.cos(x)",
    "tan(u)": "np.tan(u)",
    "sinpi(u)": "np.sin(np.pi * u)",
    "cospi(u)": "np.cos(np.pi * u)",
    "asin(u)": "np.arcsin(u)",
    "acos(u)": "np.arccos(u)",
    "atan(x)": "np.arctan(x)",
    "sinh(u)": "np.sinh(u)",
    "cosh(u)": "np.cosh(u)",
    "tanh(x)": "np.tanh(x)",
    "asinh(x)": "np.arcsinh(x)",
    "acosh(1 + p)": "np.arccosh(1 + p)",
    "atanh(u)": "np.arctanh(u)",
    "erf(x)": "F.erf(x)",
    "erfc(u)": "1 - F.erf(u)",
    "erfinv(u)": "",
    "erfcinv(p)": "",
    "erfcx(u)": "",
    "normcdf(u)": "0.5 * (1 + F.erf(u / np.sqrt(2)))",
    "normcdfinv(p)": "",
    "lgamma(p)": "F.lgamma(p)",
    "tgamma(p)": "F.gamma(p)",
    "j0(x)": "",
    "j1(x)": "",
    "y0(p)": "",
    "y1(p)": "",
    "cyl_bessel_i0(u)": "np.i0(u)",
    "cyl_bessel_i1(u)": "",
}
BINARY = {
    "pow(p, u)": "np.power(p, u)",
    "pow(p, k)": "np.power(p, k.astype(p.dtype))",
    "atan2(x, y)": "np.arctan2(x, y)",
    "hypot(x, y)": "np.hypot(x, y)",
    "rhypot(x, y)": "1 / np.hypot(x, y)",
    "fmod(x, y)": "np.fmod(x, y)",
    "remainder(x, y)": "F.ieee_remainder(x, y)",
    "copysign(x, y)": "np.copysign(x, y)",
    "nextafter(x, y)": "np.nextafter(x, y)",
    "fdim(x, y)": "np.maximum(x - y, np.array(0, x.dtype))",
    "fma(x, y, z)": "x * y + z",
    "ldexp(x, k)": "np.ldexp(x, k)",
    "scalbn(x, k)": "np.ldexp(x, k)",
    "norm3d(x, y, z)": "np.sqrt(x * x + y * y + z * z)",
    "rnorm3d(x, y, z)": "1 / np.sqrt(x * x + y * y + z * z)",
    "norm4d(x, y, z, p)": "np.sqrt(x * x + y * y + z * z + p * p)",
    "rnorm4d(x, y, z, p)": "",
    "jn(k, x)": "",
    "yn(k, p)": "",
    "div_rn(x, y)": "x / y",
    "div_rz(x, y)": "",
    "div_rd(x, y)": "",
    "div_ru(x, y)": "",
    "add_rz(x, y)": "",
    "add_rd(x, y)": "",
    "mul_rz(x, y)": "",
    "mul_ru(x, y)": "",
    "fma_rz(x, y, z)": "",
    "rcp_rn(x)": "1 / x",
    "rcp_rz(x)": "",
    "sqrt_rn(p)": "np.sqrt(p)",
    "sqrt_rz(p)": "",
}
FP32_ONLY = {
    "fast_sinf(u)": "np.sin(u)",
    "fast_cosf(u)": "np.cos(u)",
    "fast_tanf(u)": "np.tan(u)",
    "fast_expf(u)": "np.exp(u)",
    "fast_exp10f(u)": "np.power(np.float32(10), u)",
    "fast_logf(p)": "np.log(p)",
    "fast_log2f(p)": "np.log2(p)",
    "fast_log10f(p)": "np.log10(p)",
    "fast_powf(p, u)": "np.power(p, u)",
    "fast_dividef(x, y)": "x / y",
    "saturatef(x)": "np.clip(x, 0, 1)",
}
TO_INTEGER = {
    "fp32": (
        "float2int_rn",
        "float2int_rz",
        "float2int_rd",
        "float2int_ru",
        "float2uint_rn",
        "float_as_int",
        "float_as_uint",
        "float2ll_rn",
        "float2ll_rz",
        "float2ull_rz",
        "llrint",
        "llround",
        "isnan",
        "isinf",
        "finitef",
        "signbit",
        "ilogb",
    ),
    "fp64": (
        "double2int_rn",
        "double2int_rz",
        "double2uint_rz",
        "double2hiint",
        "double2loint",
        "double2ll_rn",
        "double2ull_ru",
        "double_as_longlong",
        "double2float_rz",
        "isnan",
        "isinf",
        "isfinited",
        "signbit",
        "ilogb",
    ),
}
OF_INTEGERS = {
    "i32": (
        "clz(k)",
        "popc(k)",
        "brev(k)",
        "ffs(k)",
        "abs(k)",
        "byte_perm(k, m, m)",
        "mul24(k, m)",
        "mulhi(k, m)",
        "hadd(k, m)",
        "rhadd(k, m)",
        "int2float_rn(k)",
        "int2float_rz(k)",
        "int_as_float(k)",
        "int2double_rn(k)",
    ),
    "i64": (
        "clz(k)",
        "popc(k)",
        "brev(k)",
        "ffs(k)",
        "abs(k)",
        "mulhi(k, m)",
        "ll2float_rn(k)",
        "ll2float_rd(k)",
        "ll2double_rn(k)",
        "longlong_as_double(k)",
    ),
}


def libdevice(kind: str) -> Iterator[Case]:
    inputs = (
        ("x", kind, "moderate"),
        ("y", kind, "moderate"),
        ("z", kind, "moderate"),
        ("p", kind, "positive"),
        ("u", kind, "unit"),
        ("k", "i32", "small"),
    )
    tolerance = 2e-5 if kind == "fp32" else 1e-11
    functions = {**UNARY, **BINARY, **(FP32_ONLY if kind == "fp32" else {})}
    names = list(functions)
    for at in range(0, len(names), 20):
        e = [
            Expression(f"libdevice.{n}", functions[n], kind, tolerance=2e-3 if n.startswith("fast_") else tolerance)
            for n in names[at : at + 20]
        ]
        yield limits(elementwise(f"libdevice_{kind}_{at // 20}", inputs, e), absolute=1e-6 if kind == "fp32" else 1e-12)
    e = [Expression(f"libdevice.{n}(x)", "", "fp32" if "2float" in n else "i64") for n in TO_INTEGER[kind]]
    yield elementwise(f"libdevice_{kind}_to_integer", inputs, e)


def libdevice_of_integers(kind: str) -> Case:
    inputs = (("k", kind, "any"), ("m", kind, "any"))
    return elementwise(
        f"libdevice_{kind}",
        inputs,
        [
            Expression(
                f"libdevice.{n}", "", "fp64" if "2double" in n or "as_double" in n else "fp32" if "float" in n else kind
            )
            for n in OF_INTEGERS[kind]
        ],
    )


CASTS = (*INTEGERS, *FLOATS, "fp8e4nv", "fp8e5")
WORD = {
    "i8": "int8",
    "u8": "uint8",
    "i16": "int16",
    "u16": "uint16",
    "i32": "int32",
    "u32": "uint32",
    "i64": "int64",
    "u64": "uint64",
    "fp16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp64": "float64",
    "fp8e4nv": "float8e4nv",
    "fp8e5": "float8e5",
    "fp8e4b15": "float8e4b15",
}


def casts(source: str) -> Case:
    e = []
    for to in CASTS:
        if to == source:
            continue
        if "fp8" in to and source in INTEGERS or "fp8" in source and to in INTEGERS:
            continue
        if to != "fp8e4nv":
            # Some versions round ties away from zero on the way to e5m2.
            near = 0.26 if to == "fp8e5" else 0
            e.append(Expression(f"x.to(tl.{WORD[to]})", f"F.cast(x, '{to}')", to, tolerance=near))
    e += [
        Expression("(x.to(tl.float32) > 1).to(tl.int8)", "(x.astype(np.float32) > 1)", "i8"),
        Expression(
            "x.to(tl.int1).to(tl.int32)" if "fp8" not in source else "(x.to(tl.float32) != 0).to(tl.int32)",
            "(x != 0)",
            "i32",
        ),
    ]
    fill = "castable"
    case = elementwise(f"casts_{source}", (("x", source, fill),), e)
    return limits(case, arch_from=89 if source == "fp8e4nv" else 75)


def more_casts() -> Iterator[Case]:
    x = (("x", "fp32", "castable"),)
    yield elementwise(
        "rounded_towards_zero",
        x,
        [Expression(f"x.to(tl.{WORD[to]}, fp_downcast_rounding='rtz')", "", to) for to in ("fp16", "bf16")],
    )
    yield limits(
        elementwise(
            "rounded_to_e5m2_towards_zero",
            x,
            [Expression("x.to(tl.float8e5, fp_downcast_rounding='rtz')", "", "fp8e5")],
        ),
        arch_from=80,
    )
    yield elementwise(
        "bitcasts",
        (("x", "i32", "any"), ("y", "i16", "any"), ("w", "i64", "any"), ("b", "u8", "any")),
        [
            Expression("x.to(tl.float32, bitcast=True)", "x.view(np.float32)", "fp32"),
            Expression("y.to(tl.float16, bitcast=True)", "y.view(np.float16)", "fp16"),
            Expression("y.to(tl.bfloat16, bitcast=True)", "", "bf16"),
            Expression("w.to(tl.float64, bitcast=True)", "w.view(np.float64)", "fp64"),
            Expression(
                "b.to(tl.float8e5, bitcast=True).to(tl.float16)", "F.cast(b.view(F.dtype('fp8e5')), 'fp16')", "fp16"
            ),
            Expression("b.to(tl.float8e5, bitcast=True).to(tl.bfloat16)", "", "bf16"),
            Expression("b.to(tl.float8e4b15, bitcast=True).to(tl.float16)", "", "fp16"),
            Expression("tl.cast(x, tl.float32, bitcast=True)", "x.view(np.float32)", "fp32", (3, 1)),
        ],
    )
    for source in (*FLOATS, "fp8e5"):
        yield limits(
            elementwise(
                f"cast_{source}_fp8e4nv",
                (("x", source, "castable"),),
                [Expression("x.to(tl.float8e4nv)", "F.cast(x, 'fp8e4nv')", "fp8e4nv", tolerance=0.13)],
            ),
            arch_from=89,
        )
    yield limits(
        elementwise(
            "bitcast_e4m3",
            (("b", "u8", "any"),),
            [
                Expression(
                    f"b.to(tl.float8e4nv, bitcast=True).to(tl.{WORD[to]})",
                    f"F.cast(b.view(F.dtype('fp8e4nv')), '{to}')",
                    to,
                )
                for to in ("fp16", "bf16", "fp32")
            ],
        ),
        arch_from=89,
    )
