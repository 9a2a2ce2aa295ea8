"""Random valid PTX: exact instructions, branches, loops and exchanges between lanes, each program from a seed."""

from __future__ import annotations

from forms import HEADER, Random
from memory_forms import Program

# R, D, H: registers of 32, 64, 16 bits; P: a predicate; K: a number below 32. The first operand is written.
TEMPLATES = [
    *(f"{op}.{t} R, R, R" for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max") for t in ("s32", "u32")),
    *(f"{op}.{t} D, D, D" for op in ("add", "sub", "mul.lo", "mul.hi", "min", "max") for t in ("s64", "u64")),
    *(f"{op}.{t} H, H, H" for op in ("add", "sub", "mul.lo", "min", "max") for t in ("s16", "u16")),
    "add.sat.s32 R, R, R",
    "sub.sat.s32 R, R, R",
    "mad.lo.s32 R, R, R, R",
    "mad.hi.u32 R, R, R, R",
    "mad.wide.s32 D, R, R, D",
    "mad.wide.u32 D, R, R, D",
    "mad.lo.u64 D, D, D, D",
    "mul.wide.s32 D, R, R",
    "mul.wide.u32 D, R, R",
    "mul.wide.s16 R, H, H",
    "mul24.lo.u32 R, R, R",
    "mad24.lo.s32 R, R, R, R",
    "sad.u32 R, R, R, R",
    "sad.s32 R, R, R, R",
    "abs.s32 R, R",
    "neg.s32 R, R",
    "abs.s64 D, D",
    "neg.s64 D, D",
    "not.b32 R, R",
    "not.b64 D, D",
    "cnot.b32 R, R",
    *(f"{op}.b32 R, R, R" for op in ("and", "or", "xor")),
    *(f"{op}.b64 D, D, D" for op in ("and", "or", "xor")),
    *(f"{op}.b16 H, H, H" for op in ("and", "or", "xor")),
    "shl.b32 R, R, R",
    "shr.u32 R, R, K",
    "shr.s32 R, R, R",
    "shl.b64 D, D, K",
    "shr.s64 D, D, K",
    "shr.u64 D, D, R",
    "shf.l.wrap.b32 R, R, R, R",
    "shf.r.clamp.b32 R, R, R, R",
    "lop3.b32 R, R, R, R, 0x1b",
    "lop3.b32 R, R, R, R, 0xca",
    "lop3.b32 R, R, R, R, 0x96",
    "prmt.b32 R, R, R, R",
    "prmt.b32.f4e R, R, R, R",
    "prmt.b32.rc8 R, R, R, R",
    "bfe.u32 R, R, R, R",
    "bfe.s32 R, R, K, K",
    "bfi.b32 R, R, R, K, K",
    "bfind.u32 R, R",
    "bfind.s32 R, R",
    "bfind.shiftamt.u32 R, R",
    "brev.b32 R, R",
    "brev.b64 D, D",
    "clz.b32 R, R",
    "clz.b64 R, D",
    "popc.b32 R, R",
    "popc.b64 R, D",
    "bmsk.clamp.b32 R, R, K",
    "szext.wrap.s32 R, R, R",
    "dp4a.s32.u32 R, R, R, R",
    "dp2a.lo.u32.s32 R, R, R, R",
    "add.u16x2 R, R, R",
    "min.s16x2 R, R, R",
    "max.u16x2 R, R, R",
    "max.s16x2.relu R, R, R",
    *(
        f"{op}.{m}.f32 R, R, R"
        for op in ("add", "sub", "mul")
        for m in ("rn", "rz", "rm", "rp", "rn.ftz", "rz.sat", "rn.ftz.sat")
    ),
    *(f"fma.{m}.f32 R, R, R, R" for m in ("rn", "rz", "rm", "rp", "rn.ftz", "rn.sat")),
    *(f"{op}.{m}.f64 D, D, D" for op in ("add", "sub", "mul") for m in ("rn", "rz", "rp")),
    "fma.rn.f64 D, D, D, D",
    "fma.rm.f64 D, D, D, D",
    "div.rn.f32 R, R, R",
    "div.rn.ftz.f32 R, R, R",
    "div.rz.f32 R, R, R",
    "div.rn.f64 D, D, D",
    "sqrt.rn.f32 R, R",
    "sqrt.rn.f64 D, D",
    "rcp.rn.f32 R, R",
    "rcp.rm.f64 D, D",
    *(
        f"{op}{m}.f32 R, R, R"
        for op in ("min", "max")
        for m in ("", ".ftz", ".NaN", ".xorsign.abs", ".NaN.xorsign.abs")
    ),
    "min.f64 D, D, D",
    "max.f64 D, D, D",
    "abs.f32 R, R",
    "neg.f32 R, R",
    "abs.ftz.f32 R, R",
    "neg.f64 D, D",
    "copysign.f32 R, R, R",
    *(f"{op}.{m}.f16 H, H, H" for op in ("add", "sub", "mul") for m in ("rn", "rn.ftz", "rn.sat")),
    "fma.rn.f16 H, H, H, H",
    "fma.rn.relu.f16 H, H, H, H",
    "fma.rn.bf16 H, H, H, H",
    *(f"{op}.rn.f16x2 R, R, R" for op in ("add", "sub", "mul")),
    "fma.rn.f16x2 R, R, R, R",
    "fma.rn.bf16x2 R, R, R, R",
    "fma.rn.relu.bf16x2 R, R, R, R",
    "add.rn.bf16x2 R, R, R",
    "mul.rn.bf16 H, H, H",
    "min.NaN.f16x2 R, R, R",
    "max.bf16x2 R, R, R",
    "max.f16 H, H, H",
    "min.xorsign.abs.bf16 H, H, H",
    "abs.bf16x2 R, R",
    "neg.f16x2 R, R",
    *(
        f"cvt.{m}.{to}.f32 {d}, R"
        for m in ("rzi", "rni", "rmi", "rpi")
        for to, d in (("s32", "R"), ("u32", "R"), ("s64", "D"), ("u64", "D"), ("s16", "H"))
    ),
    *(
        f"cvt.{m}.f32.{t} R, {d}"
        for m in ("rn", "rz", "rp")
        for t, d in (("s32", "R"), ("u32", "R"), ("s64", "D"), ("u64", "D"), ("f64", "D"))
    ),
    *(f"cvt.rn.f64.{t} D, {d}" for t, d in (("s32", "R"), ("u64", "D"), ("s64", "D"))),
    "cvt.f64.f32 D, R",
    "cvt.f32.f16 R, H",
    "cvt.f32.bf16 R, H",
    "cvt.rn.f16.f32 H, R",
    "cvt.rz.f16.f32 H, R",
    "cvt.rn.bf16.f32 H, R",
    "cvt.rz.bf16.f32 H, R",
    "cvt.rn.f16x2.f32 R, R, R",
    "cvt.rn.relu.bf16x2.f32 R, R, R",
    "cvt.rna.tf32.f32 R, R",
    "cvt.rn.satfinite.e4m3x2.f32 H, R, R",
    "cvt.rn.satfinite.e5m2x2.f32 H, R, R",
    "cvt.rn.f16x2.e4m3x2 R, H",
    "cvt.rn.f16x2.e5m2x2 R, H",
    "cvt.s64.s32 D, R",
    "cvt.u64.u32 D, R",
    "cvt.u32.u64 R, D",
    "cvt.s32.s16 R, H",
    "cvt.u16.u32 H, R",
    "cvt.sat.u16.s32 H, R",
    "cvt.sat.s32.s64 R, D",
    "cvt.rzi.f32.f32 R, R",
    "cvt.rpi.f16.f16 H, H",
    "cvt.rn.f16.s32 H, R",
    "cvt.rzi.s32.f16 R, H",
    "cvt.rzi.s64.f64 D, D",
    *(
        f"setp.{c}.{t} P, {d}, {d}"
        for c in ("eq", "ne", "lt", "le", "gt", "ge")
        for t, d in (("s32", "R"), ("u32", "R"), ("s64", "D"), ("f32", "R"), ("f64", "D"), ("f16", "H"))
    ),
    "setp.nan.f32 P, R, R",
    "setp.ltu.f32 P, R, R",
    "setp.lt.and.s32 P, R, R, !P",
    "setp.ge.xor.u32 P, R, R, P",
    "setp.neu.or.f32 P, R, R, P",
    "testp.finite.f32 P, R",
    "testp.subnormal.f64 P, D",
    "set.lt.u32.f32 R, R, R",
    "set.ge.f32.s32 R, R, R",
    "and.pred P, P, P",
    "xor.pred P, P, P",
    "not.pred P, P",
    "selp.b32 R, R, R, P",
    "selp.b64 D, D, D, P",
    "selp.b16 H, H, H, P",
    "slct.s32.s32 R, R, R, R",
    "slct.u32.f32 R, R, R, R",
    "mov.b32 R, {H, H}",
    "mov.b64 D, {R, R}",
    "mov.b32 R, R",
    "mov.b64 D, D",
]
COLLECTIVES = [
    "shfl.sync.bfly.b32 R, R, K, 31, -1",
    "shfl.sync.idx.b32 R, R, R, 31, -1",
    "shfl.sync.down.b32 R, R, K, 0x1c1f, -1",
    "shfl.sync.up.b32 R|P, R, K, 0, -1",
    "vote.sync.ballot.b32 R, P, -1",
    "vote.sync.any.pred P, P, -1",
    "redux.sync.add.s32 R, R, -1",
    "redux.sync.xor.b32 R, R, -1",
    "match.any.sync.b32 R, R, -1",
    "movmatrix.sync.aligned.m8n8.trans.b16 R, R",
]
NUMBERS = (
    "0",
    "1",
    "-1",
    "7",
    "0x80000000",
    "0x7fffffff",
    "0x3f800000",
    "0x7fc00000",
    "0xff800000",
    "0x00000001",
    "0x3c003c00",
    "0x12345678",
)


NANS = {
    "f32": "0x7fffffff",
    "tf32": "0x7fffffff",
    "f64": "0x7fffffffffffffff",
    "f16": "0x7fff",
    "bf16": "0x7fff",
}


class Writer:
    """One program."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.lines: list[str] = []
        self.labels = 0

    def pick(self, count: int) -> int:
        return self.random.next() % count

    def operand(self, letter: str, written: bool) -> str:
        if letter == "K":
            return str(self.pick(32))
        if letter == "R" and not written and self.pick(12) == 0:
            return NUMBERS[self.pick(len(NUMBERS))]
        return {"R": "%r", "D": "%d", "H": "%h", "P": "%p"}[letter] + str(
            self.pick({"R": 10, "D": 5, "H": 5, "P": 4}[letter])
        )

    def instruction(self, template: str, guarded: bool = True) -> None:
        head, operands = template.split(" ", 1)
        text, first = "", True
        for i, c in enumerate(operands):
            is_letter = (
                c in "RDHKP"
                and (i + 1 == len(operands) or not operands[i + 1].isalnum())
                and (i == 0 or not operands[i - 1].isalnum())
            )
            if is_letter:
                inside = operands[:i].count("{") > operands[:i].count("}")
                operand = self.operand(
                    c,
                    first
                    or inside
                    or operands[i - 1] == "|"
                    or "f" in head.split(".", 1)[1]
                    or "16x2" in head
                    or head.startswith(("match", "redux", "mov", "set", "bf")),
                )
                text, first = text + operand, False
            else:
                text += c
        guard = f"@{'!' if self.pick(2) else ''}%p{self.pick(4)} " if guarded and self.pick(8) == 0 else ""
        self.lines.append(f"{guard}{head} {text};")
        self.settle(head, text.split(",")[0].split("|")[0])

    def settle(self, head: str, register: str) -> None:
        """One NaN for all: which of its bits survive depends on what the GPU's compiler makes of the whole program."""
        words = head.split(".")
        kind = words[-2] if words[0] in ("cvt", "set") and len(words) > 2 else words[-1]
        if kind in NANS and words[0] not in ("setp", "testp"):
            bits = {"%r": 32, "%d": 64, "%h": 16}[register[:2]]
            self.lines.append(f"setp.nan.{kind.replace('tf32', 'f32')} %p4, {register}, {register};")
            self.lines.append(f"@%p4 mov.b{bits} {register}, {NANS[kind]};")
        elif kind in ("f16x2", "bf16x2"):
            self.lines.append(f"mov.b32 {{%h6, %h7}}, {register};")
            for half in ("%h6", "%h7"):
                self.lines.append(f"setp.nan.{kind[:-2]} %p4, {half}, {half};")
                self.lines.append(f"@%p4 mov.b16 {half}, 0x7fff;")
            self.lines.append(f"mov.b32 {register}, {{%h6, %h7}};")

    def block(self, length: int, depth: int) -> None:
        for _ in range(length):
            kind = self.pick(24)
            if kind == 0 and depth < 3:
                label = self.labels
                self.labels += 1
                self.lines.append(f"@%p{self.pick(4)} bra ELSE{label};")
                self.block(2 + self.pick(5), depth + 1)
                if self.pick(2):
                    self.lines += [f"bra END{label};", f"ELSE{label}:"]
                    self.block(2 + self.pick(5), depth + 1)
                    self.lines.append(f"END{label}:")
                else:
                    self.lines.append(f"ELSE{label}:")
            elif kind == 1 and depth < 2:
                label, counter = self.labels, f"%r{20 + depth}"
                self.labels += 1
                # As many rounds as the thread's own number says.
                self.lines += [f"and.b32 {counter}, %r{self.pick(10)}, 3;", f"LOOP{label}:"]
                self.block(2 + self.pick(4), depth + 1)
                self.lines += [
                    f"sub.s32 {counter}, {counter}, 1;",
                    f"setp.ge.s32 %p{5 + depth}, {counter}, 0;",
                    f"@%p{5 + depth} bra LOOP{label};",
                ]
            elif kind == 2 and depth == 0:
                self.lines.append("bar.warp.sync -1;")
                self.instruction(COLLECTIVES[self.pick(len(COLLECTIVES))], False)
            elif kind == 3:
                r, d = self.pick(10), self.pick(5)
                if self.pick(2):
                    self.lines += [f"st.shared.b64 [%r30], %d{d};", f"ld.shared.b32 %r{r}, [%r30+4];"]
                else:
                    self.lines += [f"st.shared.b32 [%r30], %r{r};", f"ld.shared.s16 %d{d}, [%r30+2];"]
            elif kind == 4:
                a, b, c = (self.operand("R", False) for _ in range(3))
                self.lines += [f"add.cc.u32 %r24, {a}, {b};", f"addc.u32 %r{self.pick(10)}, {c}, {a};"]
            elif kind == 5:
                self.lines.append(f"or.b32 %r24, %r{self.pick(10)}, 1;")
                self.lines.append(f"{('div', 'rem')[self.pick(2)]}.u32 %r{self.pick(10)}, %r{self.pick(10)}, %r24;")
            else:
                self.instruction(TEMPLATES[self.pick(len(TEMPLATES))])


def random_program(seed: int) -> Program:
    writer = Writer(seed)
    writer.block(36, 0)
    lines = [
        HEADER + ".visible .entry k(.param .u64 p0, .param .u64 p1)\n{",
        ".reg .pred %p<8>;",
        ".reg .b16 %h<8>;",
        ".reg .b32 %r<40>;",
        ".reg .b64 %d<8>;",
        ".reg .b32 %t;",
        ".reg .b64 %in, %out, %a;",
        ".shared .align 8 .b8 s[512];",
        "mov.u32 %t, %tid.x;",
        "ld.param.u64 %in, [p0];",
        "ld.param.u64 %out, [p1];",
        "mov.u32 %r30, s;",
        "mad.lo.u32 %r30, %t, 8, %r30;",
        "mad.wide.u32 %a, %t, 96, %in;",
    ]
    lines += [f"ld.global.b32 %r{i}, [%a+{4 * i}];" for i in range(10)] + [
        f"ld.global.b64 %d{i}, [%a+{40 + 8 * i}];" for i in range(5)
    ]
    lines += [f"ld.global.b16 %h{i}, [%a+{80 + 2 * i}];" for i in range(5)] + [
        f"setp.gt.s32 %p{i}, %r{i}, %r{i + 1};" for i in range(4)
    ]
    lines += [f"mov.b32 %r{i}, 0;" for i in range(20, 25)]
    lines += writer.lines + ["mad.wide.u32 %a, %t, 96, %out;"]
    lines += [f"st.global.b32 [%a+{4 * i}], %r{i};" for i in range(10)] + [
        f"st.global.b64 [%a+{40 + 8 * i}], %d{i};" for i in range(5)
    ]
    lines += [f"st.global.b16 [%a+{80 + 2 * i}], %h{i};" for i in range(5)]
    lines += [
        "mov.b32 %r24, 0;",
        *[f"@%p{i} or.b32 %r24, %r24, {1 << i};" for i in range(4)],
        "st.global.b32 [%a+92], %r24;",
        "ret;",
        "}",
    ]
    # Numbers of every kind: floats of three widths, small and large whole ones.
    return Program(f"random {seed}", "\n".join(lines) + "\n", [f"mixed:3072.{seed % 5}"], 32 * 96, 32)


def programs(count: int = 500) -> list[Program]:
    return [random_program(seed) for seed in range(count)]
