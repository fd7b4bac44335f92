"""Quantizers: modules that turn vectors into codes and back."""

from __future__ import annotations

from vqbook.quantizers.affine import AffineVectorQuantizer
from vqbook.quantizers.alternating import Alternating
from vqbook.quantizers.base import Quantized
from vqbook.quantizers.cosine import CosineVectorQuantizer
from vqbook.quantizers.ema import EMAVectorQuantizer, ema_update, smoothed_codebook
from vqbook.quantizers.gmvq import GaussianMixtureQuantizer
from vqbook.quantizers.gumbel import GumbelQuantizer, exponential_schedule, gumbel_noise, gumbel_softmax
from vqbook.quantizers.kmeans import KMeans, kmeans
from vqbook.quantizers.lowdim import LowDimensional
from vqbook.quantizers.nearest import VectorQuantizer
from vqbook.quantizers.ops import rotation_trick, straight_through, synchronised
from vqbook.quantizers.priced import PricedVectorQuantizer
from vqbook.quantizers.revival import Revival, revive
from vqbook.quantizers.search import nearest_code, top_k_codes
from vqbook.quantizers.sqvae import SQVAEQuantizer

__all__ = [
    "AffineVectorQuantizer",
    "Alternating",
    "CosineVectorQuantizer",
    "EMAVectorQuantizer",
    "GaussianMixtureQuantizer",
    "GumbelQuantizer",
    "KMeans",
    "LowDimensional",
    "PricedVectorQuantizer",
    "Quantized",
    "Revival",
    "SQVAEQuantizer",
    "VectorQuantizer",
    "ema_update",
    "exponential_schedule",
    "gumbel_noise",
    "gumbel_softmax",
    "kmeans",
    "nearest_code",
    "revive",
    "rotation_trick",
    "smoothed_codebook",
    "straight_through",
    "synchronised",
    "top_k_codes",
]
