"""One slope and one offset, shared by all codes: the whole codebook follows the encoder at once."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vqbook.quantizers.distributed import all_sum
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.ops import Estimator, straight_through


class AffineVectorQuantizer(VectorQuantizer):
    r"""Search and look up a shifted and stretched copy of the codebook.

    learned: $e'_k = (1 + \eta a) \odot e_k + \eta b$ with parameters a, b in $\mathbb R^D$ that start at zero

    running: $e'_k = \sqrt{v_z / (v_e + 10^{-8})} \odot (e_k - m_e) + m_z$ with running means m and variances
    v, for each dimension, of the encoder outputs and of the codes; they are constants for the gradient, start with the
    first training batch and move with `momentum` before each search.

    A gradient step on one vector moves the code that it chose; one on a and b moves every code, also those that
    nothing chooses. Under "learned" the term "codebook" gives gradient to the codebook, a and b.

    Args:
        num_codes: K.
        dim: D.
        statistics: "learned" or "running".
        eta: η, the step size of a and b relative to that of the codes; the authors use 2 to 10. For "learned".
        momentum: weight of the newest batch. For "running".
        estimator: as in VectorQuantizer.
        generator: source of the initial codes, uniform in (-1/K, 1/K).
    Raises:
        ValueError: other statistics, eta not above 0, or momentum outside (0, 1].

    Huh et al., 2023; chapter 4.
    """

    z_mean: Tensor
    z_var: Tensor
    code_mean: Tensor
    code_var: Tensor
    seen: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        statistics: Literal["learned", "running"] = "learned",
        eta: float = 2.0,
        momentum: float = 0.1,
        estimator: Estimator = straight_through,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_codes, dim, estimator=estimator, generator=generator)
        if statistics not in ("learned", "running"):
            raise ValueError(f'statistics must be "learned" or "running", got {statistics!r}')
        if not eta > 0 or not 0 < momentum <= 1:
            raise ValueError(f"eta must lie above 0 and momentum in (0, 1], got {eta} and {momentum}")
        self.statistics, self.eta, self.momentum = statistics, eta, momentum
        if statistics == "learned":
            self.scale = nn.Parameter(torch.zeros(dim))  # a
            self.shift = nn.Parameter(torch.zeros(dim))  # b
        else:
            for name, start in (("z_mean", 0.0), ("z_var", 1.0), ("code_mean", 0.0), ("code_var", 1.0)):
                self.register_buffer(name, torch.full((dim,), start))
            self.register_buffer("seen", torch.tensor(False))

    def transform(self) -> tuple[Tensor, Tensor]:
        """Slope and offset, each (D,)."""
        if self.statistics == "learned":
            return 1 + self.eta * self.scale, self.eta * self.shift
        slope = (self.z_var / (self.code_var + 1e-8)).sqrt()
        return slope, self.z_mean - slope * self.code_mean

    def effective_codebook(self) -> Tensor:
        """The transformed codes, (K, D)."""
        slope, offset = self.transform()
        return slope * self.codebook + offset

    def assign(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """Let running statistics follow this batch first, in training."""
        if self.training and self.statistics == "running":
            self._follow(self.check(z_e))
        return super().assign(z_e)

    @torch.no_grad()
    def _follow(self, z: Tensor) -> None:
        weight = torch.where(self.seen, self.momentum, 1.0)
        code_var, code_mean = torch.var_mean(self.codebook, 0, correction=0)
        z_mean, z_var = moments(z)
        for running, new in (
            (self.z_mean, z_mean),
            (self.z_var, z_var),
            (self.code_mean, code_mean),
            (self.code_var, code_var),
        ):
            running.lerp_(new, weight)
        self.seen.fill_(True)

    @torch.no_grad()
    def restart(self, which: Tensor, vectors: Tensor) -> None:
        """Put some codes elsewhere: the transform is undone, so that the effective codes are these vectors."""
        slope, offset = self.transform()
        smallest = torch.where(slope < 0, -1e-6, 1e-6)  # a slope of zero cannot be undone
        super().restart(which, (vectors - offset) / torch.where(slope.abs() < 1e-6, smallest, slope))


@torch.no_grad()
def moments(z: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance (divided by N) of each dimension over the vectors of all ranks, (..., D) -> (D,), (D,)."""
    flat = z.detach().reshape(-1, z.shape[-1])
    count = all_sum(torch.tensor(len(flat), dtype=flat.dtype, device=flat.device))
    mean = all_sum(flat.sum(0)) / count
    return mean, all_sum((flat - mean).square().sum(0)) / count
