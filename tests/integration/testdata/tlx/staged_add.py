import triton
import triton.language as tl
import triton.language.extra.tlx as tlx


@triton.jit
def staged_add(x_ptr, y_ptr, out_ptr, n, BLOCK: tl.constexpr):
    """x + y, both brought into shared memory by asynchronous copies of the program's own."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < n
    buffers = tlx.local_alloc((BLOCK,), tl.float32, 2)
    x = tlx.local_view(buffers, 0)
    y = tlx.local_view(buffers, 1)
    token_x = tlx.async_load(x_ptr + at, x, mask=mask)
    token_y = tlx.async_load(y_ptr + at, y, mask=mask)
    tlx.async_load_commit_group([token_x, token_y])
    tlx.async_load_wait_group(tl.constexpr(0))
    tl.store(out_ptr + at, tlx.local_load(x) + tlx.local_load(y), mask=mask)
