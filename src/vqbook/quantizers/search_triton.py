r"""The code search as one fused GPU kernel: scores live and die in registers, memory grows with N alone.

Each program owns a tile of vectors and walks over all codes, tile by tile. It keeps three numbers for a
vector: best score, best code, second-best score. The products run on tensor cores as three TF32 products each
(`tf32x3`), which lose little against float32; what they do lose is covered by `EPS` and decided by `settle`.
"""

from __future__ import annotations

import importlib.util
import os
from functools import cache
from typing import Any

import torch
from torch import Tensor

EPS = 2.0**-20  # rounding unit assumed of a tf32x3 product: 16 times that of float32
_MAX_DIM = 512  # a tile of vectors must fit on the chip


def usable(z: Tensor) -> bool:
    """Is there a GPU, Triton, and a shape that the kernel takes?"""
    half_or_single = z.dtype in (torch.float32, torch.float16, torch.bfloat16)
    on_gpu = z.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"
    return half_or_single and on_gpu and 1 <= z.shape[1] <= _MAX_DIM and len(z) > 0 and _has_triton()


@cache
def _has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def scan(z: Tensor, codes: Tensor, bias: Tensor, centre: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Best and second-best score $ (z - c) \cdot e_k + b_k $, best code, and $\lVert z - c \rVert$.

    Args:
        z: vectors, (N, D), single or half precision.
        codes: shifted codes, float32, (K, D).
        bias: $-\lVert e_k \rVert^2 / 2$, float32, (K,).
        centre: c, float32, (D,).
    Returns:
        best (N,), second (N,), code int64 (N,), norm (N,).
    """
    kernel, cdiv, next_power_of_2 = _kernel()
    total, dim = z.shape
    z, codes = z.contiguous(), codes.contiguous()
    best, second, norm = (torch.empty(total, dtype=torch.float32, device=z.device) for _ in range(3))
    code = torch.empty(total, dtype=torch.int64, device=z.device)
    width = max(16, next_power_of_2(dim))
    rows, cols = (128, 64) if width <= 128 else (64, 32)
    kernel[(cdiv(total, rows),)](
        z,
        codes,
        bias,
        centre,
        best,
        second,
        code,
        norm,
        total,
        len(codes),
        dim,
        ROWS=rows,
        COLS=cols,
        WIDTH=width,
        num_warps=8 if rows == 128 else 4,
        num_stages=3,
    )
    return best, second, code, norm


@cache
def _kernel() -> tuple[Any, Any, Any]:  # Triton is imported where it is first needed
    import triton
    import triton.language as tl

    @triton.jit
    def kernel(  # type: ignore[no-untyped-def]
        z_ptr,
        codes_ptr,
        bias_ptr,
        centre_ptr,
        best_ptr,
        second_ptr,
        code_ptr,
        norm_ptr,
        total,
        num_codes,
        dim,
        ROWS: tl.constexpr,
        COLS: tl.constexpr,
        WIDTH: tl.constexpr,
    ):
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        axis = tl.arange(0, WIDTH)
        here, inside = row < total, axis < dim
        at = row.to(tl.int64)[:, None] * dim + axis[None, :]
        z = tl.load(z_ptr + at, mask=here[:, None] & inside[None, :], other=0.0).to(tl.float32)
        z -= tl.load(centre_ptr + axis, mask=inside, other=0.0)[None, :]
        norm = tl.sqrt(tl.sum(z * z, axis=1))
        # A vector that is not finite keeps its bad norm, by which the caller finds it; its scores are harmless.
        z = tl.where((norm < float("inf"))[:, None], z, 0.0)
        best = tl.full((ROWS,), float("-inf"), tl.float32)
        second = tl.full((ROWS,), float("-inf"), tl.float32)
        code = tl.zeros((ROWS,), tl.int32)
        for start in range(0, num_codes, COLS):
            col = start + tl.arange(0, COLS)
            real = col < num_codes
            e = tl.load(
                codes_ptr + col[None, :] * dim + axis[:, None],
                mask=real[None, :] & inside[:, None],
                other=0.0,
            )
            bias = tl.load(bias_ptr + col, mask=real, other=float("-inf"))
            score = tl.dot(z, e, input_precision="tf32x3") + bias[None, :]
            top = tl.max(score, axis=1)
            place = tl.argmax(score, axis=1)
            rest = tl.max(
                tl.where(place[:, None] == tl.arange(0, COLS)[None, :], float("-inf"), score), axis=1
            )
            second = tl.maximum(tl.maximum(second, rest), tl.minimum(best, top))
            code = tl.where(top > best, start + place, code)
            best = tl.maximum(best, top)
        tl.store(best_ptr + row, best, mask=here)
        tl.store(second_ptr + row, second, mask=here)
        tl.store(code_ptr + row, code.to(tl.int64), mask=here)
        tl.store(norm_ptr + row, norm, mask=here)

    return kernel, triton.cdiv, triton.next_power_of_2
