"""Hard assignment in which popular codes are expensive: what ALBO asks for, without a sample."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from vqbook.quantizers.distributed import all_mean
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.search import nearest_code


class PricedVectorQuantizer(VectorQuantizer):
    r"""Take the code for which squared distance plus price is least; prices follow demand.

    $k^* = \arg\min_k \lVert z_e - \mu_k \rVert^2 + v_k$, the optimum over q of $\mathbb E_x \sum_k q(k \mid x)
    \lVert z_e - \mu_k \rVert^2 + \beta\,\mathrm{KL}\bigl(q(c) \Vert \mathrm{uniform}\bigr)$.

    The prices minimise its dual,
    $\mathbb E_x \max_k \bigl[-\lVert z_e-\mu_k \rVert^2 - v_k\bigr] + \beta \log \frac1K \sum_k e^{v_k/\beta}$,
    whose gradient says: the price of a code rises by as much as its share of a batch exceeds the share
    $\mathrm{softmax}(v/\beta)_k$ that its price pays for. Each training forward takes one such step. β → 0 leaves the
    nearest code; β → ∞ gives all codes the same number of vectors.

    Codebook, estimator and terms are those of VectorQuantizer. Evaluation pays the same prices.

    Args:
        num_codes: K.
        dim: D.
        beta: β, the squared distance that a nat is worth, 0 or more.
        price_lr: step size of the prices, relative to K times the smaller of β and the quantisation error.
        settings: estimator and generator, as VectorQuantizer has them.
    Raises:
        ValueError: beta or price_lr out of range.

    Chapters 7 and 8.
    """

    prices: Tensor

    def __init__(
        self, num_codes: int, dim: int, *, beta: float, price_lr: float = 0.02, **settings: object
    ) -> None:
        if not 0 <= beta < float("inf") or not 0 < price_lr < float("inf"):
            raise ValueError(
                f"beta must be at least 0 and price_lr above 0, both finite, got {beta} and {price_lr}"
            )
        super().__init__(num_codes, dim, **settings)  # type: ignore[arg-type]
        self.beta, self.price_lr = beta, price_lr
        self.register_buffer("prices", torch.zeros(num_codes))

    def assign(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Encoder output -> (itself (..., D), the cheapest codes (...)); in training the prices move on."""
        z = self.check(z_e)
        # A price is a squared distance along one more axis, on which all vectors lie at zero.
        height = (self.prices - self.prices.min()).sqrt().unsqueeze(-1)
        codes = nearest_code(pad(z, (0, 1)), torch.cat([self.codebook.detach(), height], 1))
        if self.training and self.beta > 0:
            self._step(z.detach(), codes)
        return z, codes

    @torch.no_grad()
    def _step(self, z: Tensor, codes: Tensor) -> None:
        counts = self.count(codes)
        error = all_mean((z - self.codebook[codes]).square().sum(), codes.numel())
        size = self.price_lr * self.num_codes * self.beta * error / (self.beta + error)
        demand = counts / counts.sum()
        self.prices = self.prices + size * (demand - (self.prices / self.beta).softmax(0))
