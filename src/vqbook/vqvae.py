"""The vector-quantised autoencoder."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from vqbook.quantizers import Quantized


class VQVAEOutput(NamedTuple):
    """Reconstruction, encoder output and what the quantizer made of it.

    Attributes:
        x_hat: (B, C, H, W).
        z_e: encoder output before quantisation, channels last, (B, h, w, D).
        quantized: vectors (B, h, w, D), codes (B, h, w), terms, usage (K,).
    """

    x_hat: Tensor
    z_e: Tensor
    quantized: Quantized


class VQVAE(nn.Module):
    r"""Encode, quantise, decode: $\hat x = \mathrm{dec}(\mathrm{quantise}(\mathrm{enc}(x)))$.

    Args:
        encoder: (B, C, H, W) -> (B, D, h, w).
        quantizer: any of vqbook.quantizers: (..., D) to Quantized, with num_codes and lookup(codes).
        decoder: (B, D, h, w) -> (B, C, H, W).

    van den Oord et al., 2017; chapter 3.
    """

    def __init__(self, encoder: nn.Module, quantizer: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.quantizer, self.decoder = encoder, quantizer, decoder

    def forward(self, x: Tensor) -> VQVAEOutput:
        """Images (B, C, H, W) in [0, 1] -> VQVAEOutput."""
        z_e = self.encoder(x).permute(0, 2, 3, 1)  # (B, h, w, D): each position is one vector
        quantized = self.quantizer(z_e)
        x_hat = self.decoder(quantized.z_q.permute(0, 3, 1, 2))
        return VQVAEOutput(x_hat, z_e, quantized)

    def encode(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> codes (B, h, w)."""
        return self.quantizer(self.encoder(x).permute(0, 2, 3, 1)).codes

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> images (B, C, H, W)."""
        if codes.ndim != 3 or codes.is_floating_point():
            raise ValueError(f"codes must be integers (B, h, w), got {codes.dtype} {tuple(codes.shape)}")
        quantizer: Any = self.quantizer
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < quantizer.num_codes:
            raise ValueError(
                f"codes must lie in 0..{quantizer.num_codes - 1}, got {int(codes.min())}..{int(codes.max())}"
            )
        return self.decoder(quantizer.lookup(codes).permute(0, 3, 1, 2))
