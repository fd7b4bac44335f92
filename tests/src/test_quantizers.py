"""Straight-through, VectorQuantizer and k-means."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from vqbook.quantizers import VectorQuantizer, kmeans, nearest_code, straight_through


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_straight_through_has_the_value_of_one_and_the_gradient_of_the_other() -> None:
    z_e = torch.randn(5, 3, generator=rng(), requires_grad=True)
    z_q = torch.randn(5, 3, generator=rng(1), requires_grad=True)
    out = straight_through(z_e, z_q)
    torch.testing.assert_close(out, z_q)
    weight = torch.randn(5, 3, generator=rng(2))
    (out * weight).sum().backward()
    assert torch.equal(z_e.grad, weight)
    assert z_q.grad is None
    with pytest.raises(ValueError, match=r"\(5, 3\) and \(5, 2\)"):
        straight_through(torch.zeros(5, 3), torch.zeros(5, 2))


def test_quantizer_shapes_values_and_usage() -> None:
    vq = VectorQuantizer(32, 8, generator=rng())
    z_e = torch.randn(2, 4, 4, 8, generator=rng(1))
    out = vq(z_e)
    assert out.z_q.shape == z_e.shape
    assert out.codes.shape == (2, 4, 4)
    assert out.codes.dtype == out.usage.dtype == torch.int64
    assert set(out.terms) == {"codebook", "commitment"}
    torch.testing.assert_close(out.z_q, vq.codebook[out.codes])
    assert torch.equal(out.usage, torch.bincount(out.codes.flatten(), minlength=32))
    expected = (vq.codebook[out.codes] - z_e).square().mean()
    torch.testing.assert_close(out.terms["codebook"], expected)
    torch.testing.assert_close(out.terms["commitment"], expected)


@pytest.mark.parametrize(
    ("part", "encoder", "codebook"),
    [("codebook", False, True), ("commitment", True, False), ("reconstruction", True, False)],
)
def test_who_receives_gradient(part: str, encoder: bool, codebook: bool) -> None:
    vq = VectorQuantizer(16, 4, generator=rng())
    z_e = torch.randn(10, 4, generator=rng(1), requires_grad=True)
    out = vq(z_e)
    (out.z_q.square().sum() if part == "reconstruction" else out.terms[part]).backward()
    for tensor, expected in ((z_e, encoder), (vq.codebook, codebook)):
        assert (tensor.grad is not None and bool(tensor.grad.abs().sum() > 0)) is expected


def test_only_chosen_codes_learn_and_move_towards_their_vectors() -> None:
    vq = VectorQuantizer(16, 4, generator=rng())
    z_e = torch.randn(10, 4, generator=rng(1))
    out = vq(z_e)
    out.terms["codebook"].backward()
    expected = torch.zeros(16, 4)
    for vector, code in zip(z_e, out.codes.tolist(), strict=True):
        expected[code] += 2 * (vq.codebook[code].detach() - vector) / z_e.numel()
    torch.testing.assert_close(vq.codebook.grad, expected)


def test_quantizer_start_is_seeded_and_in_range() -> None:
    one, same, other = (VectorQuantizer(32, 8, generator=rng(s)).codebook for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.abs().max() <= 1 / 32


def test_quantizer_under_autocast_gives_float32() -> None:
    vq = VectorQuantizer(16, 4, generator=rng())
    with torch.autocast("cpu", torch.bfloat16):
        out = vq(torch.randn(10, 4, generator=rng(1)).bfloat16())
    assert out.z_q.dtype == out.terms["codebook"].dtype == torch.float32


def test_single_code_and_no_vectors() -> None:
    vq = VectorQuantizer(1, 4, generator=rng())
    out = vq(torch.randn(6, 4, generator=rng(1)))
    assert out.codes.tolist() == [0] * 6
    assert out.usage.tolist() == [6]
    with pytest.raises(ValueError, match="no vectors"):
        vq(torch.empty(0, 4))
    with pytest.raises(ValueError, match="at least 1"):
        VectorQuantizer(0, 4)


def test_initialise_puts_codes_among_the_data() -> None:
    z = torch.randn(2, 16, 16, 4, generator=rng()) + 5
    vq, again = VectorQuantizer(8, 4), VectorQuantizer(8, 4)
    vq.initialise(z, rng(1))
    again.initialise(z, rng(1))
    assert torch.equal(vq.codebook, again.codebook)
    assert vq.codebook.requires_grad
    assert (vq(z).usage > 0).all()
    assert vq(z).terms["codebook"] < z.var()


def test_kmeans_never_raises_distortion_and_reports_it_honestly() -> None:
    x = torch.randn(500, 3, generator=rng())
    found = kmeans(x, 10, iterations=30, generator=rng(1))
    assert all(b <= a * (1 + 1e-6) for a, b in zip(found.distortion, found.distortion[1:], strict=False))
    assert torch.equal(found.codes, nearest_code(x, found.centroids))
    actual = (x - found.centroids[found.codes]).square().sum(-1).mean().item()
    assert found.distortion[-1] == pytest.approx(actual, rel=1e-5)
    assert len(kmeans(x, 10, iterations=3, generator=rng(1)).distortion) == 4
    assert kmeans(x, 10, iterations=0, generator=rng(1)).centroids.shape == (10, 3)


@pytest.mark.parametrize("init", ["sample", "++"])
def test_kmeans_finds_clusters_and_is_seeded(init: str) -> None:
    centres = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    x = centres.repeat_interleave(50, 0) + 0.1 * torch.randn(150, 2, generator=rng())
    runs = [kmeans(x, 3, init=init, generator=rng(s)) for s in (1, 1, 2, 3, 4)]
    assert torch.equal(runs[0].centroids, runs[1].centroids)
    assert min(run.distortion[-1] for run in runs) < 0.1
    if init == "++":
        assert all(run.distortion[-1] < 0.1 for run in runs)


def test_kmeans_stops_at_a_fixed_point_and_with_one_code_for_each_vector() -> None:
    x = torch.randn(20, 2, generator=rng())
    found = kmeans(x, 20, iterations=50, generator=rng(1))
    assert found.distortion[-1] == 0
    assert len(found.distortion) < 51
    single = kmeans(x, 1, generator=rng(1))
    torch.testing.assert_close(single.centroids[0], x.mean(0))


def test_kmeans_with_fewer_distinct_vectors_than_codes() -> None:
    x = torch.ones(10, 2)
    for init in ("sample", "++"):
        found = kmeans(x, 3, init=init, generator=rng())
        assert found.distortion[-1] == 0
        assert torch.isfinite(found.centroids).all()


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        (dict(x=torch.zeros(4), num_codes=2), r"\(N, D\)"),
        (dict(x=torch.zeros(4, 2), num_codes=5), "between 1 and the 4"),
        (dict(x=torch.zeros(4, 2), num_codes=0), "between 1 and the 4"),
        (dict(x=torch.zeros(4, 2), num_codes=2, init="best"), "best"),
        (dict(x=torch.zeros(4, 2), num_codes=2, iterations=-1), "-1"),
        (dict(x=torch.full((4, 2), torch.nan), num_codes=2), "NaN"),
    ],
)
def test_kmeans_names_what_is_wrong(kwargs: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        kmeans(**kwargs)


TWO_THREADS = """
import torch
from vqbook.quantizers import VectorQuantizer
assert torch.get_num_threads() == 2
quantizer = VectorQuantizer(2, 64, generator=torch.Generator().manual_seed(0))  # few codes, many collisions
z = torch.randn(200, 64, 64, generator=torch.Generator().manual_seed(1))
gradients = set()
for _ in range(10):
    quantizer.zero_grad()
    quantizer(z).terms["codebook"].backward()
    gradients.add(quantizer.codebook.grad.numpy().tobytes())
print(len(gradients))
"""


def test_codebook_gradient_is_bit_identical_on_several_threads() -> None:
    """Indexing adds rows in whatever order the threads come; two runs of one seed would part after some steps."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", TWO_THREADS], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
