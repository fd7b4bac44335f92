"""A quantizer around a quantizer, with the same face."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqbook.quantizers.nearest import VectorQuantizer


class Wrapper(nn.Module):
    """Hands every question on to the quantizer within; a subclass changes one thing.

    Args:
        quantizer: a VectorQuantizer or a relative, or a wrapper around one.
    Raises:
        ValueError: something else was given.
    """

    def __init__(self, quantizer: VectorQuantizer | Wrapper) -> None:
        super().__init__()
        if not isinstance(quantizer, VectorQuantizer | Wrapper):
            raise ValueError(f"expected a quantizer that searches a codebook, got {type(quantizer).__name__}")
        self.quantizer = quantizer

    @property
    def codebook(self) -> Tensor:
        """(K, D)."""
        return self.quantizer.codebook

    @property
    def num_codes(self) -> int:
        """K."""
        return self.quantizer.num_codes

    @property
    def dim(self) -> int:
        """Length of a quantised vector."""
        return self.quantizer.dim

    @property
    def input_dim(self) -> int:
        """Channels that the encoder must give."""
        return self.quantizer.input_dim

    def effective_codebook(self) -> Tensor:
        """The codes as they are searched, (K, D)."""
        return self.quantizer.effective_codebook()

    def check(self, z_e: Tensor) -> Tensor:
        """The encoder output in the precision of the codebook; ValueError if it cannot be quantised."""
        return self.quantizer.check(z_e)

    def search_space(self, z: Tensor) -> Tensor:
        """What of an encoder output is compared with the effective codebook."""
        return self.quantizer.search_space(z)

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) to their vectors, as the decoder receives them."""
        return self.quantizer.lookup(codes)

    def restart(self, which: Tensor, vectors: Tensor) -> None:
        """Put some codes elsewhere: `which` bool (K,), `vectors` points of the search space (K, D)."""
        self.quantizer.restart(which, vectors)

    def initialise(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Start the codebook where the data is: k-means on a sample of encoder outputs."""
        self.quantizer.initialise(z, generator)
