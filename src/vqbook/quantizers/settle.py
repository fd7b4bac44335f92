"""What rounding can do to a ranking of codes, and the exact answer where it might have done so."""

from __future__ import annotations

import torch
from torch import Tensor

_ENTRIES = 1 << 20  # numbers in the largest intermediate result: 8 MiB in float64


def rounding_bound(z_norm: Tensor, bias: Tensor, *, dim: int, eps: float) -> Tensor:
    r"""How far rounding can move the difference of two scores of one vector.

    $2\,(D + 6)\, u\, (\lVert z \rVert R + R^2 / 2)$, with $R = \max_k \lVert e_k \rVert$ and the rounding
    unit u: the usual bound for an inner product of length D, plus a few roundings for the shift to the centre
    and the bias, once for each of the two scores.

    Args:
        z_norm: lengths of the shifted vectors, (n,).
        bias: $-\lVert e_k \rVert^2 / 2$ of the shifted codes, (K,).
        dim: D.
        eps: u, half the distance from 1 to the next number.
    Returns:
        Bound for each vector, (n,).

    Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1.
    """
    sq_radius = -2 * bias.min()
    return (z_norm * sq_radius.sqrt() + sq_radius / 2) * (2 * (dim + 6) * eps)


def centred(codebook: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (D,), codes without it (K, D) and bias (K,) in float64: distances do not feel a shift, rounding does."""
    codes = codebook.double()
    centre = codes.mean(0)
    shifted = codes - centre
    return centre, shifted, -0.5 * shifted.square().sum(-1)


def settle(z: Tensor, codebook: Tensor, rows: Tensor, k: int) -> Tensor:
    """The k nearest codes of some rows, from float64 differences; the lower index first when codes tie.

    Args:
        z: all vectors, (N, D).
        codebook: (K, D).
        rows: which vectors, int64, (m,).
        k: how many codes.
    Returns:
        Codes, int64, (m, k).
    Raises:
        ValueError: a vector is not finite, or so large that its distances are not.
    """
    found = torch.empty(len(rows), k, dtype=torch.int64, device=z.device)
    if not len(rows):
        return found
    codes = codebook.double()
    centre, shifted, bias = centred(codebook)
    for places in torch.arange(len(rows), device=rows.device).split(max(1, _ENTRIES // max(codes.shape))):
        exact = z[rows[places]].double()
        if not torch.isfinite(exact).all():
            raise ValueError("z holds NaN or infinite values")
        moved = exact - centre
        score = torch.addmm(bias, moved, shifted.T)  # (m, K)
        slack = rounding_bound(moved.norm(dim=-1), bias, dim=z.shape[1], eps=2.0**-53)
        if not torch.isfinite(slack).all():
            raise ValueError("z or codebook holds values so large that their distances overflow")
        least = score.topk(k).values[:, -1] - slack
        row, code = (score >= least.unsqueeze(-1)).nonzero(as_tuple=True)  # rivals, row by row
        found[places] = _rank(exact, codes, row, code, k)
    return found


def _rank(z: Tensor, codes: Tensor, row: Tensor, code: Tensor, k: int) -> Tensor:
    """Order the rivals (row, code) of each row by distance, then by index; keep k, (n, k)."""
    pieces = max(1, _ENTRIES // z.shape[1])
    sq_dist = torch.cat(
        [
            (z[r] - codes[c]).square().sum(-1)
            for r, c in zip(row.split(pieces), code.split(pieces), strict=True)
        ]
    )
    order = sq_dist.argsort(stable=True)
    order = order[row[order].argsort(stable=True)]  # by row, then distance, then index
    first = torch.searchsorted(row, torch.arange(len(z), device=row.device))  # where each row's rivals begin
    return code[order[first.unsqueeze(-1) + torch.arange(k, device=row.device)]]
