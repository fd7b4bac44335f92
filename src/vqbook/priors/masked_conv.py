"""Autoregressive priors by masked convolution: each code is predicted from the codes before it in reading order."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Mask = Literal["A", "B", "above", "rows"]


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what was read before, row by row from the upper left.

    Args:
        channels_in, channels_out: as of any convolution.
        kernel: its width and height, odd.
        mask: "A" shows what is above and what is left of the centre, "B" the centre, too; "above" shows the rows
            above only, "rows" these and all of the centre's own row.
    Raises:
        ValueError: an even kernel or an unknown mask.

    Van den Oord et al., Pixel Recurrent Neural Networks, 2016 (A and B).
    """

    mask: Tensor

    def __init__(self, channels_in: int, channels_out: int, kernel: int, mask: Mask) -> None:
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, so that it has a centre, got {kernel}")
        if mask not in get_args(Mask):
            raise ValueError(f"mask must be one of {', '.join(get_args(Mask))}, got {mask!r}")
        super().__init__(channels_in, channels_out, kernel, padding=kernel // 2)
        centre = kernel // 2
        shown = torch.zeros(kernel, kernel)
        shown[:centre] = 1
        shown[centre, : {"above": 0, "A": centre, "B": centre + 1, "rows": kernel}[mask]] = 1
        self.register_buffer("mask", shown, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class GatedPixelCNN(nn.Module):
    r"""A prior over maps of codes, $p(c \mid h) = \prod_i p(c_i \mid c_{<i}, h)$, in reading order.

    Two stacks of gated convolutions, $\tanh(a) \odot \sigma(b)$: one sees all rows above, one the row so far and the
    first stack. A single stack of masked convolutions never sees a wedge at the upper right (its blind spot); two
    together see every code before. A condition h (of a topic, a class) is added inside every gate, through a matrix of
    each layer's own.

    Args:
        num_codes: K.
        channels: of both stacks.
        layers: gated layers; the first is seven wide and does not see the code itself.
        condition: size of h; 0 for none.

    Van den Oord et al., Conditional Image Generation with PixelCNN Decoders, 2016; the prior of Topic-VQ-VAE's
    pictures (Yoo and Choi, 2024).
    """

    def __init__(self, num_codes: int, *, channels: int = 64, layers: int = 15, condition: int = 0) -> None:
        super().__init__()
        if min(num_codes, channels, layers) < 1:
            raise ValueError(
                f"num_codes, channels and layers must be 1 or more, got {num_codes, channels, layers}"
            )
        self.num_codes, self.condition = num_codes, condition
        self.embedding = nn.Embedding(num_codes, channels)
        self.layers = nn.ModuleList(_Gated(channels, condition, first=i == 0) for i in range(layers))
        self.head = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, num_codes, 1))

    def forward(self, codes: Tensor, h: Tensor | None = None) -> Tensor:
        """Logits of each code given those before it.

        Args:
            codes: (B, H, W) int64.
            h: (B, condition), or None where condition is 0.
        Returns:
            (B, H, W, K).
        Raises:
            ValueError: no map of codes, a code out of range, a condition that is missing or not wanted.
        """
        if codes.ndim != 3 or codes.is_floating_point():
            raise ValueError(f"codes must be integers (B, H, W), got {codes.dtype} {tuple(codes.shape)}")
        if codes.numel() and not 0 <= int(codes.min()) <= int(codes.max()) < self.num_codes:
            raise ValueError(
                f"codes must be from 0 to {self.num_codes - 1}, got {int(codes.min())} to {int(codes.max())}"
            )
        if (0 if h is None else h.shape[-1]) != self.condition:
            raise ValueError(f"h must be (B, {self.condition}), got {None if h is None else tuple(h.shape)}")
        above = row = self.embedding(codes).movedim(-1, 1)
        for layer in self.layers:
            above, row = layer(above, row, h)
        return self.head(row).movedim(1, -1)

    def nll(self, codes: Tensor, h: Tensor | None = None) -> Tensor:
        r"""$-\ln p(c \mid h)$ in nats per map, (B,)."""
        each = F.cross_entropy(self(codes, h).movedim(-1, 1), codes, reduction="none")
        return each.flatten(1).sum(1)

    @torch.no_grad()
    def sample(
        self,
        shape: tuple[int, int, int],
        h: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Maps of codes (B, H, W) int64, drawn one code after the other."""
        codes = torch.zeros(shape, dtype=torch.int64, device=self.embedding.weight.device)
        for i in range(shape[1]):
            for j in range(shape[2]):
                p = self(codes[:, : i + 1], h)[:, i, j].softmax(-1)
                codes[:, i, j] = torch.multinomial(p, 1, generator=generator)[:, 0]
        return codes


class _Gated(nn.Module):
    """One layer of both stacks; the one that sees the rows above never hears of the row itself."""

    def __init__(self, channels: int, condition: int, *, first: bool) -> None:
        super().__init__()
        kernel, wide = 7 if first else 3, 2 * channels
        self.above = MaskedConv2d(channels, wide, kernel, "above" if first else "rows")
        self.row = MaskedConv2d(channels, wide, kernel, "A" if first else "B")
        self.down = nn.Conv2d(wide, wide, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.told = nn.Linear(condition, wide, bias=False) if condition else None
        self.first = first

    def forward(self, above: Tensor, row: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
        told = 0 if self.told is None else self.told(h)[..., None, None]
        seen = self.above(above)
        new = self.out(_gate(self.row(row) + self.down(seen) + told))
        return _gate(
            seen + told
        ), new if self.first else row + new  # a sum would show the first layer the code


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()
