"""Codes and encoder outputs on the unit sphere."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from vqbook.quantizers.nearest import VectorQuantizer


class CosineVectorQuantizer(VectorQuantizer):
    r"""Compare directions: encoder outputs and codes are scaled to length one before the search and after it.

    $k^* = \arg\max_k \cos(z_e, e_k) = \arg\min_k \lVert \hat z_e - \hat e_k \rVert^2, \qquad z_q = \hat e_{k^*}$
    with $\hat v = v / \lVert v \rVert$.

    z_q, both terms and the gradients are those of the unit vectors, and pass through the scaling to z_e and to the
    codebook: nothing pulls along the length. A vector of length zero has no direction and takes the lowest code.
    Arguments are those of VectorQuantizer.

    Yu et al., 2022; chapter 4.
    """

    def search_space(self, z: Tensor) -> Tensor:
        """Unit vectors, (..., D)."""
        return normalize(z, dim=-1)

    def effective_codebook(self) -> Tensor:
        """Unit codes, (K, D)."""
        return normalize(self.codebook, dim=-1)
