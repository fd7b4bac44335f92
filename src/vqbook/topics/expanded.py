"""A quantizer that stands several codes in for one vector."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import embedding, normalize

from vqbook.quantizers import VectorQuantizer, top_k_codes
from vqbook.quantizers.ops import Estimator, straight_through

Combine = Literal["sum", "mean"]


class ExpandedQuantizer(VectorQuantizer):
    r"""Replace each vector, scaled to length one, by the sum (or the mean) of its nearest codes.

    $\hat z = z / \lVert z \rVert, \qquad z_q = \sum_{m \in \mathcal N_k(\hat z)} \rho_m$

    With one neighbour this is VectorQuantizer on the sphere. Codes are free: only the vectors have length one, so
    that with "sum" codes that point the same way have length about 1/k.

    Args:
        num_codes: M.
        dim: D.
        near: k, how many codes stand for a vector.
        combine: "sum" as the authors have it, or "mean".
        estimator, generator: as in VectorQuantizer; the first codes are uniform in (-1, 1).
    Raises:
        ValueError: near is not between 1 and M, or an unknown combination.

    Yoo and Choi, 2024; chapter 11.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        near: int,
        *,
        combine: Combine = "sum",
        estimator: Estimator = straight_through,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_codes, dim, estimator=estimator, generator=generator)
        if not 1 <= near <= num_codes:
            raise ValueError(f"near must lie between 1 and the {num_codes} codes, got {near}")
        if combine not in ("sum", "mean"):
            raise ValueError(f'combine must be "sum" or "mean", got {combine!r}')
        self.near, self.combine = near, combine
        with torch.no_grad():
            self.codebook.mul_(num_codes)

    def search_space(self, z: Tensor) -> Tensor:
        """Unit vectors, (..., D)."""
        return normalize(z, dim=-1)

    def assign(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output -> (unit vectors (..., D), codes (..., k), nearest first)."""
        z = self.search_space(self.check(z_e))
        return z, top_k_codes(z, self.codebook, self.near)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (..., k) -> the vectors they make together, (..., D)."""
        found = embedding(codes, self.codebook)
        return found.sum(-2) if self.combine == "sum" else found.mean(-2)

    @torch.no_grad()
    def restart(self, which: Tensor, vectors: Tensor) -> None:
        """Put some codes elsewhere: k of them together make up the vector."""
        super().restart(which, vectors / self.near if self.combine == "sum" else vectors)
