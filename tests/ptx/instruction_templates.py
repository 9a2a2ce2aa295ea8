"""What random programs are made of: exact instructions, by family.

A capital letter is an operand. R, D, H: registers of 32, 64, 16 bits; P: a predicate; A, B, E: such a register of 32,
64, 16 bits or a number; F, G: a register of 32, 64 bits or a float; K, J: a number below 32, 64; L: one below 256. The
first operand is written.

Approximate instructions are left out, and every rounding is spelt out: without .rn a compiler may fuse. So is what
NVIDIA's compiler is known to get wrong (NO_GUARD; a literal as the last operand of slct).
"""

from __future__ import annotations

SIGNED = ("eq", "ne", "lt", "le", "gt", "ge")
FLOAT = (*SIGNED, "equ", "neu", "ltu", "leu", "gtu", "geu", "num", "nan")
ROUND = ("rn", "rz", "rm", "rp")
WHOLE = ("rni", "rzi", "rmi", "rpi")
INTEGERS = {
    "s16": "H",
    "u16": "H",
    "s32": "R",
    "u32": "R",
    "s64": "D",
    "u64": "D",
}
ANY = {"H": "E", "R": "A", "D": "B"}

# Opcodes that are never guarded.
NO_GUARD = ("testp", "set.")

FAMILIES: dict[str, list[str]] = {
    "add sub mul": [
        *(
            f"{op}.{t} {d}, {d}, {ANY[d]}"
            for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max")
            for t, d in INTEGERS.items()
        ),
        "add.sat.s32 R, R, A",
        "sub.sat.s32 R, A, R",
        *(
            f"mul.wide.{t} {w}, {n}, {n}"
            for w, n, t in (("R", "H", "s16"), ("R", "H", "u16"), ("D", "R", "s32"), ("D", "R", "u32"))
        ),
        *(f"{op}.{t} R, R, R" for op in ("add", "min", "max") for t in ("u16x2", "s16x2")),
        *(f"{op}.{t}.relu R, R, R" for op in ("min", "max") for t in ("s16x2", "s32")),
    ],
    "mad": [
        *(f"mad.{h}.{t} {d}, {d}, {ANY[d]}, {d}" for h in ("lo", "hi") for t, d in INTEGERS.items()),
        "mad.hi.sat.s32 R, R, R, R",
        "mad.wide.s32 D, R, A, D",
        "mad.wide.u32 D, R, R, D",
        "mad.wide.s16 R, H, H, R",
        "mad.wide.u16 R, H, E, R",
        *(f"mul24.{h}.{t} R, R, R" for h in ("lo", "hi") for t in ("u32", "s32")),
        *(f"mad24.{h}.{t} R, R, R, R" for h in ("lo", "hi") for t in ("u32", "s32")),
        "mad24.hi.sat.s32 R, R, R, R",
        *(f"sad.{t} {d}, {d}, {d}, {d}" for t, d in INTEGERS.items()),
        *(f"dp4a.{a}.{b} R, R, R, R" for a in ("s32", "u32") for b in ("s32", "u32")),
        *(f"dp2a.{h}.{a}.{b} R, R, R, R" for h in ("lo", "hi") for a in ("s32", "u32") for b in ("s32", "u32")),
    ],
    "sign": [
        *(f"{op}.{t} {d}, {d}" for op in ("abs", "neg") for t, d in INTEGERS.items() if t[0] == "s"),
        "cnot.b16 H, H",
        "cnot.b32 R, R",
        "cnot.b64 D, D",
    ],
    "logic": [
        *(f"{op}.b{n} {d}, {d}, {ANY[d]}" for op in ("and", "or", "xor") for n, d in ((16, "H"), (32, "R"), (64, "D"))),
        *(f"not.b{n} {d}, {d}" for n, d in ((16, "H"), (32, "R"), (64, "D"))),
        *(
            f"{op} {d}, {d}, A"
            for op, d in (
                ("shl.b32", "R"),
                ("shr.u32", "R"),
                ("shr.s32", "R"),
                ("shl.b64", "D"),
                ("shr.s64", "D"),
                ("shr.u64", "D"),
                ("shl.b16", "H"),
                ("shr.s16", "H"),
                ("shr.u16", "H"),
            )
        ),
        *(
            f"{op} {d}, {d}, K"
            for op, d in (("shl.b32", "R"), ("shr.u32", "R"), ("shr.s32", "R"), ("shl.b16", "H"), ("shr.s16", "H"))
        ),
        *(f"{op} D, D, J" for op in ("shl.b64", "shr.s64", "shr.u64")),
        *(f"shf.{d}.{m}.b32 R, R, R, A" for d in "lr" for m in ("wrap", "clamp")),
        *(f"shf.{d}.{m}.b32 R, R, R, K" for d in "lr" for m in ("wrap", "clamp")),
        "lop3.b32 R, R, R, A, L",
        "lop3.b32 R, R, R, R, L",
        "lop3.or.b32 R|P, R, R, R, L, P",
        "lop3.and.b32 R|P, R, R, A, L, P",
    ],
    "bits": [
        "prmt.b32 R, R, R, R",
        "prmt.b32 R, R, A, 0x7531",
        *(f"prmt.b32.{m} R, R, R, A" for m in ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")),
        *(f"bfe.{t} {d}, {d}, R, L" for t, d in INTEGERS.items() if t[1:] != "16"),
        *(f"bfe.{t} {d}, {d}, K, K" for t, d in INTEGERS.items() if t[1:] != "16"),
        "bfi.b32 R, R, R, K, K",
        "bfi.b32 R, R, R, R, L",
        "bfi.b64 D, D, D, J, J",
        "bfi.b64 D, D, D, R, R",
        *(f"bfind{s}.{t} R, {d}" for s in ("", ".shiftamt") for t, d in INTEGERS.items() if t[1:] != "16"),
        "brev.b32 R, R",
        "brev.b64 D, D",
        "clz.b32 R, R",
        "clz.b64 R, D",
        "popc.b32 R, R",
        "popc.b64 R, D",
        "fns.b32 R, R, K, A",
        *(f"bmsk.{m}.b32 R, {a}, {a}" for m in ("clamp", "wrap") for a in "RK"),
        *(f"szext.{m}.{t} R, R, {a}" for m in ("clamp", "wrap") for t in ("u32", "s32") for a in "RK"),
    ],
    "f32": [
        *(
            f"{op}.{m}.f32 R, R, F"
            for op in ("add", "sub", "mul")
            for m in (*ROUND, "rn.ftz", "rz.ftz", "rm.sat", "rz.sat", "rn.ftz.sat")
        ),
        *(f"fma.{m}.f32 R, R, F, R" for m in (*ROUND, "rn.ftz", "rp.ftz", "rn.sat", "rz.ftz.sat")),
        *(
            f"{op}{m}.f32 R, R, F"
            for op in ("min", "max")
            for m in ("", ".ftz", ".NaN", ".ftz.NaN", ".xorsign.abs", ".NaN.xorsign.abs")
        ),
        *(f"{op}{m}.f32 R, R" for op in ("abs", "neg") for m in ("", ".ftz")),
        "copysign.f32 R, R, R",
    ],
    "f32 division": [
        *(f"div.{m}.f32 R, R, F" for m in (*ROUND, "rn.ftz")),
        *(f"{op}.{m}.f32 R, R" for op in ("sqrt", "rcp") for m in (*ROUND, "rn.ftz")),
    ],
    "f64": [
        *(f"{op}.{m}.f64 D, D, G" for op in ("add", "sub", "mul") for m in ROUND),
        *(f"fma.{m}.f64 D, D, D, G" for m in ROUND),
        "min.f64 D, D, D",
        "max.f64 D, D, G",
        "abs.f64 D, D",
        "neg.f64 D, D",
        "copysign.f64 D, D, D",
    ],
    "f64 division": [
        *(f"div.{m}.f64 D, D, D" for m in ("rn", "rz")),
        *(f"{op}.{m}.f64 D, D" for op in ("sqrt", "rcp") for m in ("rn", "rm")),
    ],
    "halves": [
        *(
            f"{op}.{m}.{t} {d}, {d}, {d}"
            for op in ("add", "sub", "mul")
            for t, d in (("f16", "H"), ("f16x2", "R"))
            for m in ("rn", "rn.ftz", "rn.sat", "rn.ftz.sat")
        ),
        *(f"{op}.rn.{t} {d}, {d}, {d}" for op in ("add", "sub", "mul") for t, d in (("bf16", "H"), ("bf16x2", "R"))),
        *(
            f"fma.{m}.{t} {d}, {d}, {d}, {d}"
            for t, d in (("f16", "H"), ("f16x2", "R"))
            for m in ("rn", "rn.ftz", "rn.sat", "rn.relu", "rn.ftz.relu")
        ),
        *(f"fma.{m}.{t} {d}, {d}, {d}, {d}" for t, d in (("bf16", "H"), ("bf16x2", "R")) for m in ("rn", "rn.relu")),
        *(
            f"{op}{m}.{t} {d}, {d}, {d}"
            for op in ("min", "max")
            for t, d in (("f16", "H"), ("f16x2", "R"), ("bf16", "H"), ("bf16x2", "R"))
            for m in ("", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs")
        ),
        *(f"{op}.ftz.NaN.{t} {d}, {d}, {d}" for op in ("min", "max") for t, d in (("f16", "H"), ("f16x2", "R"))),
        *(
            f"{op}.{t} {d}, {d}"
            for op in ("abs", "neg")
            for t, d in (("f16", "H"), ("f16x2", "R"), ("bf16", "H"), ("bf16x2", "R"))
        ),
    ],
    "float to integer": [
        *(
            f"cvt.{m}.{t}.{f} {d}, {s}"
            for m in (*WHOLE, "rni.ftz")
            for t, d in INTEGERS.items()
            for f, s in (("f32", "R"), ("f64", "D"), ("f16", "H"))
            if m != "rni.ftz" or f == "f32"
        ),
        *(f"cvt.{m}.{t}.bf16 {d}, H" for m in ("rzi", "rni") for t, d in INTEGERS.items()),
        "cvt.rzi.sat.u16.f32 H, R",
        "cvt.rzi.s8.f32 R, R",
        "cvt.rni.u8.f16 R, H",
    ],
    "integer to float": [
        *(
            f"cvt.{m}.{f}.{t} {d}, {s}"
            for m in ROUND
            for t, s in INTEGERS.items()
            for f, d in (("f32", "R"), ("f64", "D"), ("f16", "H"))
        ),
        *(f"cvt.rn.bf16.{t} H, {s}" for t, s in INTEGERS.items()),
        "cvt.rn.sat.f32.s32 R, R",
        "cvt.rn.f32.u8 R, R",
        "cvt.rn.f16.s8 H, R",
    ],
    "float to float": [
        *(f"cvt.{m}.f32.f64 R, D" for m in (*ROUND, "rn.ftz", "rz.sat")),
        "cvt.f64.f32 D, R",
        "cvt.ftz.f64.f32 D, R",
        "cvt.f64.f16 D, H",
        "cvt.f32.f16 R, H",
        "cvt.ftz.f32.f16 R, H",
        "cvt.f32.bf16 R, H",
        *(f"cvt.{m}.f16.f32 H, R" for m in (*ROUND, "rn.ftz", "rn.relu", "rz.relu")),
        *(f"cvt.{m}.f16.f64 H, D" for m in ROUND),
        *(f"cvt.{m}.bf16.f32 H, R" for m in ("rn", "rz", "rn.relu", "rz.relu")),
        *(f"cvt.{m}.{t}x2.f32 R, R, R" for m in ("rn", "rz", "rn.relu", "rz.relu") for t in ("f16", "bf16")),
        "cvt.rna.tf32.f32 R, R",
        *(f"cvt.{m}.tf32.f32 R, R" for m in ("rn", "rz", "rn.relu")),
        *(f"cvt.{m}.f32.f32 R, R" for m in (*WHOLE, "rni.ftz", "sat")),
        *(f"cvt.{m}.f64.f64 D, D" for m in WHOLE),
        *(f"cvt.{m}.f16.f16 H, H" for m in (*WHOLE, "sat")),
    ],
    "fp8": [
        *(f"cvt.rn.satfinite{r}.{t}x2.f32 H, R, R" for t in ("e4m3", "e5m2") for r in ("", ".relu")),
        *(f"cvt.rn.satfinite{r}.{t}x2.f16x2 H, R" for t in ("e4m3", "e5m2") for r in ("", ".relu")),
        *(f"cvt.rn{r}.f16x2.{t}x2 R, H" for t in ("e4m3", "e5m2") for r in ("", ".relu")),
    ],
    "integer to integer": [
        *(
            f"cvt.{t}.{f} {d}, {s}"
            for t, d in INTEGERS.items()
            for f, s in INTEGERS.items()
            if t != f and not (t[1:] == f[1:] and t[0] == f[0])
        ),
        *(
            f"cvt.sat.{t}.{f} {d}, {s}"
            for t, d in INTEGERS.items()
            for f, s in INTEGERS.items()
            if int(t[1:]) <= int(f[1:]) and t != f
        ),
        *(
            f"cvt.{t}.{f} {d}, {s}"
            for t, d in (("s8", "R"), ("u8", "R"), ("u8", "H"), ("s8", "D"))
            for f, s in (("s32", "R"), ("u64", "D"), ("s16", "H"))
        ),
        "cvt.s32.s8 R, R",
        "cvt.u32.u8 R, R",
        "cvt.sat.s8.s32 R, R",
        "cvt.sat.u8.s16 R, H",
        *(f"cvt.pack.sat.{t}.s32 R, R, R" for t in ("s16", "u16")),
        *(f"cvt.pack.sat.{t}.s32.b32 R, R, R, R" for t in ("s8", "u8", "s4", "u4", "s2", "u2")),
    ],
    "setp": [
        *(f"setp.{c}.{t} P, {d}, {ANY[d]}" for c in SIGNED for t, d in INTEGERS.items()),
        *(f"setp.{c}.{t} P, {d}, {d}" for c in ("lo", "ls", "hi", "hs") for t, d in (("u32", "R"), ("u64", "D"))),
        *(f"setp.{c}.b{n} P, {d}, {d}" for c in ("eq", "ne") for n, d in ((16, "H"), (32, "R"), (64, "D"))),
        *(
            f"setp.{c}.{t} P, {d}, {f}"
            for c in FLOAT
            for t, d, f in (
                ("f32", "R", "F"),
                ("ftz.f32", "R", "R"),
                ("f64", "D", "G"),
                ("f16", "H", "H"),
                ("bf16", "H", "H"),
            )
        ),
        *(
            f"setp.{c}.{o}.{t} P, {d}, {d}, {p}"
            for c in ("lt", "ne")
            for o in ("and", "or", "xor")
            for t, d in (("s32", "R"), ("u64", "D"), ("f32", "R"), ("f64", "D"), ("f16", "H"))
            for p in ("P", "!P")
        ),
        *(f"setp.{c}.{t} P|P, R, R" for c in ("lt", "geu", "eq", "nan") for t in ("f16x2", "bf16x2")),
        "setp.gt.s32 P|P, R, A",
        "setp.le.and.f32 P|P, R, R, P",
        *(
            f"testp.{c}.{t} P, {d}"
            for c in ("finite", "infinite", "number", "notanumber", "normal", "subnormal")
            for t, d in (("f32", "R"), ("f64", "D"))
        ),
        *(f"{op}.pred P, P, P" for op in ("and", "or", "xor")),
        "not.pred P, P",
        "mov.pred P, P",
    ],
    "select": [
        *(
            f"set.{c}.{t}.{f} R, {s}, {s}"
            for c in ("lt", "ge", "ne")
            for t in ("u32", "s32", "f32")
            for f, s in (("f32", "R"), ("s32", "R"), ("u64", "D"), ("f64", "D"), ("f16", "H"))
            if (t, f) != ("f32", "f16")
        ),
        *(
            f"set.{c}.{t}.{t} {d}, {d}, {d}"
            for c in ("lt", "geu")
            for t, d in (("f16", "H"), ("f16x2", "R"), ("bf16", "H"), ("bf16x2", "R"))
        ),
        "set.gt.and.u32.s32 R, R, R, P",
        "selp.b16 H, H, E, P",
        "selp.b32 R, R, A, P",
        "selp.b64 D, D, B, P",
        "selp.f32 R, R, F, P",
        "selp.f64 D, D, D, P",
        *(f"slct.{t}.s32 {d}, {d}, {d}, R" for t, d in (("b16", "H"), ("s32", "R"), ("u64", "D"))),
        *(f"slct.{t}.f32 {d}, {d}, {d}, R" for t, d in (("b16", "H"), ("u32", "R"), ("b64", "D"))),
        "slct.ftz.s32.f32 R, R, R, R",
    ],
    "moves": [
        "mov.b32 R, {H, H}",
        "mov.b32 {H, H}, R",
        "mov.b64 D, {R, R}",
        "mov.b64 {R, R}, D",
        "mov.b64 D, {H, H, H, H}",
        "mov.b64 {H, H, H, H}, D",
        "mov.b16 H, E",
        "mov.b32 R, A",
        "mov.b64 D, B",
        "mov.u32 R, %laneid",
        "mov.u32 R, WARP_SZ",
        "mov.u32 R, %ntid.x",
        "mov.u32 R, %ctaid.x",
        "mov.u32 R, %nctaid.x",
        "mov.u32 R, %lanemask_le",
        "mov.u32 R, %lanemask_gt",
    ],
}
