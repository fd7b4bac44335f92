"""What a training step of the small autoencoder costs, by what is between encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable

import torch

from vqbook.experiments import vqvae_loss
from vqbook.nets import Decoder, Encoder
from vqbook.objectives import gmvq_loss
from vqbook.quantizers import GaussianMixtureQuantizer, VectorQuantizer
from vqbook.vqvae import VQVAE

PLAIN, MIXTURE = "vqbook: VQ-VAE", "vqbook: GM-VQ"
POSITIONS = 64  # of an image of 32 x 32, halved twice


def step_candidates(size: tuple[int, int, int], device: torch.device) -> dict[str, Callable[[], object]]:
    """Forward and backward of the whole model, by name; nothing is updated.

    The networks are those of chapters 4 and 8, with as many channels inside as a code is long. The last candidate is
    GM-VQ with standard deviations mixed, which holds arrays of N x K as the definition has them.

    Args:
        size: (N, K, D), where the N vectors of a batch come from N / 64 images, at least one.
        device: to run on.
    """
    n, k, d = size
    x = torch.rand(max(1, n // POSITIONS), 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(device)

    def model(quantizer: VectorQuantizer | GaussianMixtureQuantizer) -> VQVAE:
        torch.manual_seed(0)
        made = VQVAE(Encoder(3, hidden=d, dim=d), quantizer, Decoder(3, hidden=d, dim=d)).to(device)
        with torch.no_grad():
            z = made.encoder(x).permute(0, 2, 3, 1)
            quantizer.initialise(z.repeat(-(-k // n), 1, 1, 1), torch.Generator().manual_seed(0))
        return made

    def mixture(**settings: object) -> Callable[[], object]:
        made = model(GaussianMixtureQuantizer(k, d, **settings))  # type: ignore[arg-type]
        return lambda: gmvq_loss(x, made(x), beta=0.1, gamma=0.001).backward()

    plain = model(VectorQuantizer(k, d))
    return {
        PLAIN: lambda: vqvae_loss(plain, x)[0].backward(),
        MIXTURE: mixture(),
        "vqbook: GM-VQ, deviations mixed": mixture(mixing="deviation"),
    }
