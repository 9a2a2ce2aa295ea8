"""Times a kernel in Triton's interpreter mode, as JSON: interpret.py NAME REPETITIONS (TRITON_INTERPRET=1)."""

import json
import sys
import time

import kernels
import torch

torch.manual_seed(1)
name, repetitions = sys.argv[1], int(sys.argv[2])
case = kernels.CASES[name]
n = 1 << 20
tensors = {
    "add": lambda: [torch.randn(n), torch.randn(n), torch.empty(n)],
    "softmax": lambda: [torch.randn(1024, 1000), torch.empty(1024, 1000)],
    "matmul": lambda: [torch.randn(512, 512).half(), torch.randn(512, 512).half(), torch.empty(512, 512)],
    "attention": lambda: [torch.randn(4, 512, 64).half() for _ in range(4)],
}[name]()
kernel = getattr(kernels, name)
times = []
for _ in range(repetitions + 1):
    start = time.perf_counter()
    kernel[case["grid"]](*tensors, *case["sizes"].values(), **case["constants"])
    times.append(time.perf_counter() - start)
expected = {
    "add": lambda: tensors[0] + tensors[1],
    "softmax": lambda: torch.softmax(tensors[0], 1),
    "matmul": lambda: tensors[0].float() @ tensors[1].float(),
    "attention": lambda: torch.nn.functional.scaled_dot_product_attention(*(t[None].float() for t in tensors[:3]))[0],
}[name]()
error = (tensors[-1].float() - expected).abs().max().item()
if error > 0.02:
    sys.exit(f"{name}: the interpreter's result is off by {error}")
print(json.dumps({"first_s": times[0], "median_s": sorted(times[1:])[repetitions // 2], "error": error}))
