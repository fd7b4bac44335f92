"""Alternating optimisation: first the codes take a step towards their vectors, then everything else learns."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vqbook.quantizers.base import Quantized
from vqbook.quantizers.distributed import all_sum
from vqbook.quantizers.kmeans import cluster_sums
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.wrapper import Wrapper


class Alternating(Wrapper):
    r"""Take one step of gradient descent with momentum on the codes inside the forward pass (OPT).

    $u \leftarrow m u + \nabla_{e} \frac{1}{ND} \sum_n \lVert e_{k(n)} - \mathrm{sg}[z_n] \rVert^2, \qquad
    e \leftarrow e - \gamma u$

    Assign, step, read again: the choice of codes is kept, their vectors are those after the step, so the decoder never
    sees a codebook that lags behind the encoder. The batch is that of all ranks. u is a buffer.

    The terms are those of the quantizer within, after the step, and keep their gradients. Pure alternation gives both
    the weight 0 in the loss; the authors keep the codebook term, which also teaches an affine transform, and set
    commitment to 0.

    Args:
        quantizer: a VectorQuantizer whose codebook is a parameter: plain, cosine or affine.
        lr: γ; the error is a mean over all entries, hence the large numbers: the authors use 50.
        momentum: m.
    Raises:
        ValueError: another kind of quantizer, lr not above 0, or momentum outside [0, 1).

    Huh et al., 2023; chapter 4.
    """

    velocity: Tensor
    quantizer: VectorQuantizer

    def __init__(self, quantizer: VectorQuantizer, lr: float = 50.0, momentum: float = 0.9) -> None:
        super().__init__(quantizer)
        if not isinstance(quantizer, VectorQuantizer) or not isinstance(quantizer.codebook, nn.Parameter):
            raise ValueError(
                f"expected a VectorQuantizer with a learned codebook, got {type(quantizer).__name__}"
            )
        if not lr > 0 or not 0 <= momentum < 1:
            raise ValueError(f"lr must lie above 0 and momentum in [0, 1), got {lr} and {momentum}")
        self.lr, self.momentum = lr, momentum
        self.register_buffer("velocity", torch.zeros_like(quantizer.codebook.detach()))

    def forward(self, z_e: Tensor) -> Quantized:
        """As the quantizer within, after the step on its codes; evaluation takes no step."""
        with torch.autocast(z_e.device.type, enabled=False):
            z, codes = self.quantizer.assign(z_e)
            if self.training:
                self._step(z.detach(), codes)
            return self.quantizer.read(z, codes)

    def _step(self, z: Tensor, codes: Tensor) -> None:
        codebook = self.quantizer.codebook
        with torch.enable_grad():
            e = self.quantizer.effective_codebook()  # (K, D)
            gradient = codes_gradient(e.detach(), z, codes)
            (gradient,) = torch.autograd.grad(e, codebook, gradient)  # through normalisation or affine map
        with torch.no_grad():
            self.velocity.mul_(self.momentum).add_(gradient)
            codebook.sub_(self.lr * self.velocity)


@torch.no_grad()
def codes_gradient(e: Tensor, z: Tensor, codes: Tensor) -> Tensor:
    r"""Gradient of the mean squared error between vectors and their codes with respect to the codes.

    $\nabla_{e_k} = \frac{2}{ND} \Big(n_k e_k - \sum_{n:\,k(n)=k} z_n\Big)$

    Args:
        e: codes, (K, D).
        z: vectors, (..., D).
        codes: their codes, (...).
    Returns:
        (K, D), over the batches of all ranks.

    Chapter 4.
    """
    counts = all_sum(torch.bincount(codes.reshape(-1), minlength=len(e))).unsqueeze(-1)  # (K, 1)
    sums = all_sum(cluster_sums(z, codes, len(e)))
    return 2 * (counts * e - sums) / (counts.sum() * e.shape[1])
