"""Flash attention backward with the tile of Triton's issue 7268: 128 × 128, head dimension 64, 8 warps, one stage."""

import triton
import triton.language as tl


@triton.jit
def attention_backward(
    q_ptr,
    k_ptr,
    v_ptr,
    do_ptr,
    lse_ptr,
    delta_ptr,
    dq_ptr,
    dk_ptr,
    dv_ptr,
    length,
    scale,
    BLOCK_M: tl.constexpr = 128,
    BLOCK_N: tl.constexpr = 128,
    HEAD: tl.constexpr = 64,
):
    """One head a program: for each block of keys, all blocks of queries. dq (fp32, zero at first) grows in memory."""
    head = tl.program_id(0)
    q_ptr += head * length * HEAD
    k_ptr += head * length * HEAD
    v_ptr += head * length * HEAD
    do_ptr += head * length * HEAD
    dq_ptr += head * length * HEAD
    dk_ptr += head * length * HEAD
    dv_ptr += head * length * HEAD
    lse_ptr += head * length
    delta_ptr += head * length
    dims = tl.arange(0, HEAD)
    for start_n in range(0, length, BLOCK_N):
        keys = start_n + tl.arange(0, BLOCK_N)
        at_keys = keys[:, None] * HEAD + dims[None, :]
        key_mask = keys[:, None] < length
        k = tl.load(k_ptr + at_keys, mask=key_mask, other=0.0)
        v = tl.load(v_ptr + at_keys, mask=key_mask, other=0.0)
        dk = tl.zeros((BLOCK_N, HEAD), dtype=tl.float32)
        dv = tl.zeros((BLOCK_N, HEAD), dtype=tl.float32)
        for start_m in range(0, length, BLOCK_M):
            queries = start_m + tl.arange(0, BLOCK_M)
            at_queries = queries[:, None] * HEAD + dims[None, :]
            query_mask = queries[:, None] < length
            q = tl.load(q_ptr + at_queries, mask=query_mask, other=0.0)
            scores = tl.dot(q, tl.trans(k))
            scores = tl.where(keys[None, :] < length, scores, float("-inf"))
            lse = tl.load(lse_ptr + queries, mask=queries < length, other=0.0)
            p = tl.exp(scores * scale - lse[:, None])
            do = tl.load(do_ptr + at_queries, mask=query_mask, other=0.0)
            dv += tl.dot(tl.trans(p.to(do.dtype)), do)
            dp = tl.dot(do, tl.trans(v))
            delta = tl.load(delta_ptr + queries, mask=queries < length, other=0.0)
            ds = (p * (dp - delta[:, None]) * scale).to(q.dtype)
            dk += tl.dot(tl.trans(ds), q)
            dq = tl.load(dq_ptr + at_queries, mask=query_mask, other=0.0)
            dq += tl.dot(ds, k)
            tl.store(dq_ptr + at_queries, dq, mask=query_mask)
        tl.store(dk_ptr + at_keys, dk.to(k.dtype), mask=key_mask)
        tl.store(dv_ptr + at_keys, dv.to(v.dtype), mask=key_mask)
