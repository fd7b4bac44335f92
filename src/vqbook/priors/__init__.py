"""Priors over code maps: how probable a picture made of codes is."""

from vqbook.priors.masked_conv import GatedPixelCNN, MaskedConv2d

__all__ = ["GatedPixelCNN", "MaskedConv2d"]
