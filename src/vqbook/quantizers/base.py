"""What every quantizer returns, and what every quantizer with a codebook has."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

from vqbook.quantizers.distributed import all_sum


class Quantized(NamedTuple):
    """The one face of all quantizers: vectors, codes, named loss terms, usage.

    Attributes:
        z_q: quantised vectors, (..., D). How the gradient that arrives here goes on, to the encoder output or to the
            codebook, is what quantizers differ in; each says so.
        codes: index of the chosen code for each vector, int64, (...).
        terms: unweighted scalars by name. The training loop gives them their weights, where a reader sees
            them.
        usage: how often each code was chosen in this batch, int64, (K,). In training mode on several processes, in the
            batches of all of them.
    """

    z_q: Tensor
    codes: Tensor
    terms: dict[str, Tensor]
    usage: Tensor


class Codebook(nn.Module):
    """A module that owns K codes of length D, and what can be said about it without saying how a code is chosen.

    Args:
        start: the first codes, (K, D).
    Raises:
        ValueError: there are no codes, or they have no length.
    """

    codebook: Tensor  # (K, D), a parameter, or a buffer where no gradient moves it

    def __init__(self, start: Tensor) -> None:
        super().__init__()
        self.codebook = nn.Parameter(start)

    @property
    def num_codes(self) -> int:
        """K."""
        return self.codebook.shape[0]

    @property
    def dim(self) -> int:
        """D, the length of a quantised vector."""
        return self.codebook.shape[1]

    @property
    def input_dim(self) -> int:
        """Channels that the encoder must give: D, unless a quantizer says otherwise."""
        return self.dim

    def effective_codebook(self) -> Tensor:
        """The codes as they are searched and looked up, (K, D): the parameter itself, or a function of it."""
        return self.codebook

    def lookup(self, codes: Tensor) -> Tensor:
        """Codes (...) to their vectors (..., D), as the decoder receives them."""
        # The gradient of embedding adds rows in a fixed order; that of codebook[codes] in the threads' order.
        return embedding(codes, self.effective_codebook())

    def count(self, codes: Tensor) -> Tensor:
        """How often each code occurs, (K,): over all ranks in training mode, where all ranks call together."""
        usage = torch.bincount(codes.flatten(), minlength=self.num_codes)
        return all_sum(usage) if self.training else usage

    def check(self, z_e: Tensor) -> Tensor:
        """The encoder output in the precision of the codebook; ValueError if it cannot be quantised."""
        return check_vectors(z_e, self.input_dim).to(self.codebook.dtype)

    def extra_repr(self) -> str:
        return f"num_codes={self.num_codes}, dim={self.dim}"


def check_size(num_codes: int, dim: int) -> None:
    """Raise ValueError unless a codebook can have this size."""
    if num_codes < 1 or dim < 1:
        raise ValueError(f"num_codes and dim must be at least 1, got {num_codes} and {dim}")


def check_vectors(z_e: Tensor, dim: int) -> Tensor:
    """The encoder output, if it can be quantised.

    Raises:
        ValueError: no vectors, or another number of channels than `dim`.
    """
    if z_e.numel() == 0:
        raise ValueError(f"z_e holds no vectors, shape {tuple(z_e.shape)}: its loss terms would be undefined")
    if z_e.ndim < 1 or z_e.shape[-1] != dim:
        raise ValueError(f"z_e must be (..., {dim}), got {tuple(z_e.shape)}; images go channels last")
    return z_e
