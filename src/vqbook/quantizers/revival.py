"""Codes that nothing chooses get no gradient and stay where they are. Revival puts them where the data is."""

from __future__ import annotations

import torch
from torch import Tensor

from vqbook.quantizers.base import Quantized
from vqbook.quantizers.distributed import global_rows, place
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.wrapper import Wrapper


@torch.no_grad()
def count_down(countdown: Tensor, usage: Tensor, timeout: int) -> Tensor:
    """Steps that each code has left: a used code gets them all back, an idle one loses one.

    Args:
        countdown: int64, (K,).
        usage: how often each code was chosen in the batch, (K,).
        timeout: what a used code has.
    Returns:
        The new countdown, never below zero, (K,).
    """
    return torch.where(usage > 0, timeout, (countdown - 1).clamp_min(0))


@torch.no_grad()
def revive(
    codebook: Tensor, dead: Tensor, z: Tensor, *, noise: float = 0.01, generator: torch.Generator
) -> Tensor:
    r"""Restart dead codes at different encoder outputs, drawn at random, each moved a little.

    $e_k = v + \rho \lVert v \rVert\, \epsilon, \qquad \epsilon \sim \mathcal N(0, I)$, v a row of z

    Args:
        codebook: (K, D).
        dead: which codes to restart, bool, (K,).
        z: encoder outputs, (..., D); they repeat only if there are fewer than dead codes.
        noise: ρ.
        generator: source of the draw and of the noise, on the CPU.
    Returns:
        A new codebook, (K, D); living codes are unchanged.
    Raises:
        ValueError: there are no encoder outputs, or shapes do not fit.

    Huh et al., 2023; chapter 4.
    """
    if z.numel() == 0 or z.shape[-1] != codebook.shape[1] or dead.shape != codebook.shape[:1]:
        raise ValueError(
            "expected codebook (K, D), dead (K,) and at least one vector z (..., D), got "
            f"{tuple(codebook.shape)}, {tuple(dead.shape)} and {tuple(z.shape)}"
        )
    vectors = _jitter(_draw(z, dead, generator), noise, generator)
    return torch.where(dead.unsqueeze(-1), vectors.to(codebook), codebook)


class Revival(Wrapper):
    """Restart a code that no vector of `timeout` batches in a row has chosen.

    Each code has a countdown. When it has run out, the next training step first puts the code on a random encoder
    output of its batch (see revive), then quantises. A restart is exact for whatever is wrapped: it is the effective
    code that comes to lie on the vector, and an EMA codebook restarts with a count of one. The optimiser's own memory
    of the code, such as Adam's moments, is left alone.

    On several processes the batch is that of all ranks, and draws depend on seed and step alone: all ranks make the
    same, and a resumed run goes on as if it had never stopped.

    Args:
        quantizer: what to wrap.
        timeout: batches without use before a restart.
        noise: ρ, size of the move relative to the vector's length.
        seed: of the draws.
    Raises:
        ValueError: timeout below 1, or noise below 0.

    Huh et al., 2023; chapter 4.
    """

    countdown: Tensor
    step: Tensor

    def __init__(
        self, quantizer: VectorQuantizer | Wrapper, timeout: int = 20, noise: float = 0.01, *, seed: int = 0
    ) -> None:
        super().__init__(quantizer)
        if timeout < 1 or not noise >= 0:
            raise ValueError(f"timeout must be at least 1 and noise at least 0, got {timeout} and {noise}")
        self.timeout, self.noise, self.seed = timeout, noise, seed
        self.register_buffer("countdown", torch.full((quantizer.num_codes,), timeout))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    def forward(self, z_e: Tensor) -> Quantized:
        """As the quantizer within; in training, dead codes are restarted first and the countdown goes on after."""
        if not self.training:
            return self.quantizer(z_e)
        self._revive(self.check(z_e))
        out = self.quantizer(z_e)
        self.countdown.copy_(count_down(self.countdown, out.usage, self.timeout))
        self.step += 1
        return out

    @torch.no_grad()
    def _revive(self, z_e: Tensor) -> None:
        dead = self.countdown == 0
        if not dead.any():
            return
        generator = torch.Generator().manual_seed(self.seed + int(self.step))
        vectors = self.search_space(_draw(z_e, dead, generator))
        if vectors.isfinite().all():  # else the search will say what is wrong, and the codebook is not harmed
            self.restart(dead, _jitter(vectors, self.noise, generator))


def _draw(z: Tensor, dead: Tensor, generator: torch.Generator) -> Tensor:
    """A vector of the global batch for each code, (K, D): the dead ones get different ones while there are enough."""
    flat = z.detach().reshape(-1, z.shape[-1])
    start, total = place(len(flat), flat.device)
    order = torch.randperm(total, generator=generator)
    turn = (dead.cpu().cumsum(0) - 1).clamp_min(
        0
    )  # the first dead code takes the first of the order, and so on
    return global_rows(flat, order[turn % total], start)


def _jitter(vectors: Tensor, noise: float, generator: torch.Generator) -> Tensor:
    epsilon = torch.randn(vectors.shape, generator=generator).to(vectors)
    return vectors + noise * vectors.norm(dim=-1, keepdim=True) * epsilon
