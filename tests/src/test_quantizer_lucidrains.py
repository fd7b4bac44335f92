"""Values, gradients and learned codebooks agree with vector-quantize-pytorch, step by step, where it is installed.

Its defaults differ from what is compared here: rotation trick on, decay 0.8, one loss in which a learnable codebook
carries both terms with equal weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from vqbook.quantizers import EMAVectorQuantizer, VectorQuantizer, rotation_trick, straight_through

theirs = pytest.importorskip("vector_quantize_pytorch")
K, D = 32, 8
ESTIMATORS = {False: straight_through, True: rotation_trick}


def batch(step: int) -> torch.Tensor:
    return 0.5 * torch.randn(3, 40, D, generator=torch.Generator().manual_seed(step))


def compare_step(ours: Any, other: Any, step: int) -> None:
    a, b = (batch(step).requires_grad_() for _ in range(2))
    weight = torch.randn(a.shape, generator=torch.Generator().manual_seed(1000 + step))
    out, (z_q, codes, loss) = ours(a), other(b)
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.z_q, z_q)
    for value in out.terms.values():  # all have one value; which tensors they teach shows in the gradients
        torch.testing.assert_close(value, loss.squeeze())
    ((out.z_q * weight).mean() + sum(out.terms.values())).backward()
    ((z_q * weight).mean() + loss.squeeze()).backward()
    torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize("rotate", [False, True])
def test_plain_layer(rotate: bool) -> None:
    ours = VectorQuantizer(K, D, estimator=ESTIMATORS[rotate], generator=torch.Generator().manual_seed(0))
    other = theirs.VectorQuantize(
        D, K, learnable_codebook=True, ema_update=False, commitment_weight=1.0, rotation_trick=rotate
    )
    other._codebook.embed.data.copy_(ours.codebook.data)
    optimisers = [torch.optim.SGD(q.parameters(), lr=20.0) for q in (ours, other)]
    for step in range(8):
        for optimiser in optimisers:
            optimiser.zero_grad()
        compare_step(ours, other, step)
        torch.testing.assert_close(ours.codebook.grad, other._codebook.embed.grad[0])
        for optimiser in optimisers:
            optimiser.step()
        torch.testing.assert_close(ours.codebook, other.codebook)
    evaluate(ours, other)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("decay", [0.8, 0.99])
def test_ema_layer(rotate: bool, decay: float) -> None:
    ours = EMAVectorQuantizer(
        K, D, decay=decay, eps=1e-5, estimator=ESTIMATORS[rotate], generator=torch.Generator().manual_seed(0)
    )
    other = theirs.VectorQuantize(
        D, K, decay=decay, eps=1e-5, commitment_weight=1.0, threshold_ema_dead_code=0, rotation_trick=rotate
    )
    other.codebook = ours.codebook
    other._codebook.embed_avg.copy_(ours.sums)
    for step in range(12):
        compare_step(ours, other, step)
        torch.testing.assert_close(ours.codebook, other.codebook)
        torch.testing.assert_close(ours.counts, other._codebook.cluster_size[0])
        torch.testing.assert_close(ours.sums, other._codebook.embed_avg[0])
    evaluate(ours, other)


def evaluate(ours: Callable[..., Any], other: Any) -> None:
    out, (z_q, codes, _) = ours.eval()(batch(99)), other.eval()(batch(99))  # type: ignore[attr-defined]
    assert torch.equal(out.codes, codes)
    torch.testing.assert_close(out.z_q, z_q)
