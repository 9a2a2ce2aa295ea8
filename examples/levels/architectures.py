"""One kernel for every architecture from Turing to Blackwell: compiled for each, run wherever there is a device."""

from __future__ import annotations

import matmul
import trun

TARGETS = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]


def main() -> None:
    with trun.connect() as session:
        devices = [device for device in session.devices() if not device.unusable_reason]
        problem = matmul.Problem(session)
        ttir = matmul.matmul.warmup(*problem.arguments, **problem.constants).asm["ttir"]
        for target in TARGETS:
            kernel = session.load(ttir, level="ttir", target=target, to="cubin")
            ptx = str(kernel.asm["ptx"])
            assert f".target {target}" in ptx, f"the PTX is not for {target}"
            unit = next((name for name in ("tcgen05.mma", "wgmma", "mma.sync", "fma") if name in ptx), "none")
            there = [d.device for d in devices if d.target.startswith(f"cuda:{target.removeprefix('sm_')}:")]
            for device in there:
                with trun.connect(device=device) as other:
                    matmul.Problem(other).run()
            where = f"right on {', '.join(there)}" if there else "no device of it here"
            print(f"{target}: {len(kernel.asm['cubin'])} bytes of machine code, dot by {unit}; {where}")
    print("right")


if __name__ == "__main__":
    main()
