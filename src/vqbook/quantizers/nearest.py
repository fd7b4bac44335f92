"""The plain vector quantizer of VQ-VAE, and the frame that its relatives fill in."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from vqbook.quantizers.base import Codebook, Quantized, check_size
from vqbook.quantizers.kmeans import kmeans_start
from vqbook.quantizers.ops import Estimator, straight_through
from vqbook.quantizers.search import nearest_code


class VectorQuantizer(Codebook):
    r"""Replace each vector by the nearest row of a learned codebook.

    $k^* = \arg\min_k \lVert z_e - e_k \rVert^2, \qquad z_q = e_{k^*}$

    The argmin has no gradient: by default the decoder's gradient is copied from z_q to z_e (straight through), and the
    codebook learns from a term of its own. Vectors are channels last: permute (B, D, H, W) to (B, H, W, D).

    A relative of this class says what is searched (search_space, effective_codebook), what else happens at a training
    step (assign, read), or how a dead code is put somewhere else (restart).

    On several processes usage counts all of them; the gradient of the codebook, a parameter like any other, is
    averaged by DistributedDataParallel.

    Args:
        num_codes: K, the size of the codebook.
        dim: D, the length of a code.
        estimator: (z_e, z_q) -> a tensor with the value of z_q and the gradient that is wanted: straight_through,
            rotation_trick or synchronised(nu).
        generator: source of the initial codes, uniform in (-1/K, 1/K).

    van den Oord et al., 2017; chapter 3.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        estimator: Estimator = straight_through,
        generator: torch.Generator | None = None,
    ) -> None:
        check_size(num_codes, dim)
        super().__init__((2 * torch.rand(num_codes, dim, generator=generator) - 1) / num_codes)
        self.estimator = estimator

    def search_space(self, z: Tensor) -> Tensor:
        """What of an encoder output is compared with the effective codebook, (..., D) -> (..., D)."""
        return z

    def assign(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """The first half of forward: encoder output -> (search_space of it (..., D), codes (...))."""
        z = self.search_space(self.check(z_e))
        return z, nearest_code(z, self.effective_codebook())

    def read(self, z: Tensor, codes: Tensor) -> Quantized:
        """The second half of forward: look the codes up and make the terms."""
        e = self.lookup(codes)  # (..., D)
        terms = {"codebook": mse_loss(e, z.detach()), "commitment": mse_loss(z, e.detach())}
        return Quantized(self.estimator(z, e), codes, terms, self.count(codes))

    def forward(self, z_e: Tensor) -> Quantized:
        r"""Quantise a batch of vectors.

        codebook: $\lVert \mathrm{sg}[z_e] - e \rVert^2$, commitment: $\lVert z_e - \mathrm{sg}[e] \rVert^2$,
        both averaged over all entries (vectors and dimensions), as mse_loss does, and both unweighted.

        Args:
            z_e: encoder output, channels last, (..., D), at least one vector. Half precision is computed in
                float32.
        Returns:
            Quantized, with terms "codebook" (gradient to the codebook only) and "commitment" (to z_e only).
        Raises:
            ValueError: wrong last dimension, no vectors, or values that are not finite.
        """
        with torch.autocast(z_e.device.type, enabled=False):
            return self.read(*self.assign(z_e))

    @torch.no_grad()
    def restart(self, which: Tensor, vectors: Tensor) -> None:
        """Put some codes elsewhere, so that their effective codes are these vectors.

        Args:
            which: the codes to move, bool, (K,).
            vectors: where to, points of the search space, (K, D); rows of other codes are ignored.
        """
        self.codebook.copy_(torch.where(which.unsqueeze(-1), vectors.to(self.codebook), self.codebook))

    @torch.no_grad()
    def initialise(self, z: Tensor, generator: torch.Generator | None = None) -> None:
        """Start the codebook where the data is: k-means on a sample of encoder outputs.

        On several processes the sample comes from the vectors of all of them, and all must call; rank 0's generator
        counts.

        Args:
            z: encoder outputs, (..., D), at least K vectors; at most 64 for each code are used.
            generator: source of the sample and of the k-means seeds, on the CPU.
        Raises:
            ValueError: fewer vectors than codes, or another last dimension.
        """
        codes = kmeans_start(self.search_space(self.check(z.detach())), self.num_codes, generator)
        everyone = torch.ones(self.num_codes, dtype=torch.bool, device=self.codebook.device)
        self.restart(everyone, codes)
