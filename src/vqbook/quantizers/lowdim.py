"""Choose codes in fewer dimensions than the encoder and the decoder have."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqbook.quantizers.base import Quantized, check_vectors
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.wrapper import Wrapper


class LowDimensional(Wrapper):
    r"""Quantise between two linear maps: $z_q = U\, \mathrm{quantise}(V z_e + v) + u$.

    Few dimensions hold fewer corners in which a code can be far from everything. Terms, codebook and restarts live in
    the small space; z_q and lookup in the large one.

    Args:
        quantizer: of d dimensions.
        dim: D, the channels of encoder and decoder.
    Raises:
        ValueError: dim below 1, or not a quantizer.

    Yu et al., 2022; chapter 4.
    """

    def __init__(self, quantizer: VectorQuantizer | Wrapper, dim: int) -> None:
        super().__init__(quantizer)
        if dim < 1:
            raise ValueError(f"dim must be at least 1, got {dim}")
        self.down = nn.Linear(dim, quantizer.input_dim)
        self.up = nn.Linear(quantizer.dim, dim)

    @property
    def dim(self) -> int:
        """D, outside."""
        return self.up.out_features

    @property
    def input_dim(self) -> int:
        """D, outside."""
        return self.down.in_features

    def forward(self, z_e: Tensor) -> Quantized:
        """Encoder output (..., D) -> Quantized, z_q (..., D); codes, terms and usage are those within."""
        inner = self.quantizer(self.down(self.check(z_e)))
        return inner._replace(z_q=self.up(inner.z_q))

    def check(self, z_e: Tensor) -> Tensor:
        """The encoder output in the precision of the weights; ValueError if it cannot be quantised."""
        return check_vectors(z_e, self.input_dim).to(self.codebook.dtype)

    def search_space(self, z: Tensor) -> Tensor:
        """(..., D) -> (..., d)."""
        return self.quantizer.search_space(self.down(z))

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) to vectors (..., D)."""
        return self.up(self.quantizer.lookup(codes))

    @torch.no_grad()
    def initialise(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """k-means in the small space on a sample of encoder outputs (..., D)."""
        self.quantizer.initialise(self.down(self.check(z)), generator)
