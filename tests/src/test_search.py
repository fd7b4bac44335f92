"""Nearest-code search: exact, in bounded memory, on all its paths."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from vqbook.quantizers import nearest_code, search, settle, top_k_codes
from vqbook.quantizers.threads import in_threads


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pair(n: int, k: int, d: int, *, scale: float = 1.0, shift: float = 0.0) -> tuple[Tensor, Tensor]:
    z, codebook = torch.randn(n, d, generator=rng()), torch.randn(k, d, generator=rng(1))
    return z * scale + shift, codebook * scale + shift


def sq_dist(z: Tensor, codebook: Tensor) -> Tensor:
    return torch.stack([(codebook.double() - z_n.double()).square().sum(-1) for z_n in z])


def naive(z: Tensor, codebook: Tensor, k: int = 1) -> Tensor:
    """The definition: float64 differences, the lower index first when codes tie."""
    return sq_dist(z, codebook).sort(dim=-1, stable=True).indices[:, :k]


SIZES = [(1, 1, 1), (5, 1, 3), (64, 16, 8), (300, 64, 8), (257, 65, 5), (300, 512, 16), (50, 7, 64)]
SIZES += [(200, 1000, 16), (33, 1100, 3), (100, 2500, 8)]


@pytest.mark.parametrize(("n", "k", "d"), SIZES)
@pytest.mark.parametrize(("scale", "shift"), [(1.0, 0.0), (1.0, 1000.0), (1e-4, 0.0), (1e6, -3e6)])
def test_the_nearest_code_is_that_of_the_definition(
    n: int, k: int, d: int, scale: float, shift: float
) -> None:
    z, codebook = pair(n, k, d, scale=scale, shift=shift)
    assert torch.equal(nearest_code(z, codebook), naive(z, codebook).squeeze(-1))


@pytest.mark.parametrize(("n", "k", "d"), SIZES)
def test_the_top_codes_are_those_of_the_definition(n: int, k: int, d: int) -> None:
    z, codebook = pair(n, k, d)
    for top in {1, min(2, k), min(5, k), min(31, k), min(40, k), k}:
        assert torch.equal(top_k_codes(z, codebook, top), naive(z, codebook, top))


@pytest.mark.parametrize(
    ("n", "k", "d"), [(4096, 512, 64), (4096, 1024, 64), (1024, 8192, 64), (8192, 1024, 32)]
)
def test_at_the_sizes_of_the_benchmark_the_distance_is_the_smallest(n: int, k: int, d: int) -> None:
    z, codebook = pair(n, k, d)
    found = (z.double() - codebook[nearest_code(z, codebook)].double()).square().sum(-1)
    least = torch.cdist(z.double(), codebook.double(), compute_mode="donot_use_mm_for_euclid_dist").amin(-1)
    assert (found <= least.square() * (1 + 1e-6)).all()


def test_near_ties_are_settled_exactly() -> None:
    codebook = torch.randn(32, 8, generator=rng()).repeat(2, 1)
    codebook[32:] += 1e-7 * torch.randn(32, 8, generator=rng(1))
    z = codebook[torch.randint(64, (200,), generator=rng(2))] + 10 * torch.randn(200, 1, generator=rng(3))
    assert torch.equal(nearest_code(z, codebook), naive(z, codebook).squeeze(-1))
    assert torch.equal(top_k_codes(z, codebook, 6), naive(z, codebook, 6))


@pytest.mark.parametrize("k", [1, 3])
def test_ties_go_to_the_lowest_index(k: int) -> None:
    assert nearest_code(torch.randn(4, 3, generator=rng()), torch.ones(5, 3)).tolist() == [0, 0, 0, 0]
    grid = torch.randint(-2, 3, (700, 3), generator=rng()).float()  # at most 125 different codes
    z = torch.randint(-2, 3, (300, 3), generator=rng(1)).float()
    assert torch.equal(top_k_codes(z, grid, k), naive(z, grid, k))


def test_one_far_code_costs_no_exactness() -> None:
    z, codebook = pair(300, 600, 8)
    codebook[17] = 1e6
    assert torch.equal(nearest_code(z, codebook), naive(z, codebook).squeeze(-1))


def test_the_certificate_never_lets_a_wrong_winner_pass() -> None:
    z, codebook = pair(2000, 256, 32, shift=1e4)  # float32 holds two digits after the point here
    scan = search._Scan(z, codebook, threads=1)
    scan.centre.zero_()  # without the shift to the centre rounding decides often
    scan.codes, scan.bias = codebook, -0.5 * codebook.double().square().sum(-1).float()
    codes, doubt = scan.blocked(1)
    wrong = codes != naive(z, codebook)
    assert wrong.any()
    assert doubt[wrong.squeeze(-1)].all()


@pytest.mark.parametrize("k", [1, 4])
def test_search_in_blocks_is_search(monkeypatch: pytest.MonkeyPatch, k: int) -> None:
    z, codebook = pair(101, 300, 4)
    codebook = codebook.round(decimals=1)  # some rows in doubt
    whole = top_k_codes(z, codebook, k)
    monkeypatch.setattr(search, "_ENTRIES", 700)
    monkeypatch.setattr(search, "_CODES", 96)
    monkeypatch.setattr(settle, "_ENTRIES", 700)
    assert torch.equal(top_k_codes(z, codebook, k), whole)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_search_in_threads_is_search(monkeypatch: pytest.MonkeyPatch, mode: type) -> None:
    z, codebook = pair(1000, 300, 4)
    monkeypatch.setattr(search, "_ENTRIES", 7 * 320)
    with mode():
        found = nearest_code(z, codebook)
    assert torch.equal(found, naive(z, codebook).squeeze(-1))
    assert torch.get_num_threads() == 3
    fresh: list[int] = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert fresh == [3]  # later threads are as they were


@pytest.mark.usefixtures("three_threads")
def test_tasks_are_done_once_each_and_errors_come_back() -> None:
    done: list[int] = []
    in_threads(done.extend, range(50), threads=3)
    assert sorted(done) == list(range(50))
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda tasks: [1 // task for task in tasks], range(4), threads=3)
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_searched_in_float32(dtype: torch.dtype) -> None:
    z, codebook = (t.to(dtype) for t in pair(200, 600, 8))
    assert torch.equal(nearest_code(z, codebook), nearest_code(z.float(), codebook.float()))


def test_double_precision_is_searched_in_double() -> None:
    z, codebook = (t.double() for t in pair(200, 600, 8))
    codebook[1::2] = codebook[::2] + 1e-12 * codebook[1::2]
    assert torch.equal(nearest_code(z, codebook), naive(z, codebook).squeeze(-1))


def test_neither_autocast_nor_fast_matmul_leads_astray(monkeypatch: pytest.MonkeyPatch) -> None:
    z, codebook = pair(500, 256, 8)
    plain = nearest_code(z, codebook)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest_code(z, codebook), plain)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        assert torch.equal(nearest_code(z, codebook), plain)
    finally:
        torch.set_float32_matmul_precision(before)


def test_leading_shape_is_kept_and_no_vectors_are_fine() -> None:
    codebook = torch.randn(4, 3, generator=rng())
    assert nearest_code(torch.randn(2, 5, 6, 3, generator=rng()), codebook).shape == (2, 5, 6)
    assert nearest_code(torch.randn(3, generator=rng()), codebook).shape == ()
    assert top_k_codes(torch.randn(2, 5, 3, generator=rng()), codebook, 2).shape == (2, 5, 2)
    empty = nearest_code(torch.empty(0, 3), codebook)
    assert empty.shape == (0,)
    assert empty.dtype == torch.int64
    assert top_k_codes(torch.empty(2, 0, 3), codebook, 2).shape == (2, 0, 2)


def test_several_codebooks_are_searched_side_by_side() -> None:
    z, codebooks = torch.randn(3, 4, 5, 6, generator=rng()), torch.randn(3, 100, 6, generator=rng(1))
    found = nearest_code(z, codebooks)
    assert found.shape == (3, 4, 5)
    for head in range(3):
        assert torch.equal(found[head], nearest_code(z[head], codebooks[head]))
    assert nearest_code(torch.empty(3, 0, 6), codebooks).shape == (3, 0)
    assert top_k_codes(z, codebooks, 2).shape == (3, 4, 5, 2)


def test_tensors_with_gradient_and_other_strides() -> None:
    z = torch.randn(2, 3, 4, 4, generator=rng(), requires_grad=True)
    codebook = torch.randn(8, 3, generator=rng(1), requires_grad=True)
    codes = nearest_code(z.permute(0, 2, 3, 1), codebook)
    assert not codes.requires_grad
    flat = z.detach().permute(0, 2, 3, 1).reshape(-1, 3)
    assert torch.equal(codes.flatten(), naive(flat, codebook.detach()).squeeze(-1))


def test_permuting_the_codebook_permutes_the_codes() -> None:
    z, codebook = pair(100, 32, 8)
    order = torch.randperm(32, generator=rng(2))
    assert torch.equal(order[nearest_code(z, codebook[order])], nearest_code(z, codebook))


def test_compiled_without_a_break_and_with_gradient_around_it() -> None:
    def distortion(z: Tensor, codebook: Tensor) -> Tensor:
        return (z - codebook[nearest_code(z, codebook)]).square().sum()

    compiled = torch.compile(distortion, fullgraph=True, backend="aot_eager")
    z, codebook = pair(20, 6, 4)
    z.requires_grad_()
    loss = compiled(z, codebook)
    loss.backward()
    assert loss.item() == pytest.approx(distortion(z, codebook).item())
    assert torch.allclose(z.grad, 2 * (z - codebook[nearest_code(z, codebook)]).detach())


@pytest.mark.parametrize(
    ("z", "codebook", "says"),
    [
        (torch.zeros(4, 3), torch.zeros(5, 2), "D = 2"),
        (torch.zeros(4, 3), torch.zeros(0, 3), "K >= 1"),
        (torch.zeros(4, 3), torch.zeros(3), r"\(K, D\)"),
        (torch.tensor(1.0), torch.zeros(5, 1), r"\(\.\.\., D\)"),
        (torch.full((4, 3), torch.nan), torch.zeros(5, 3), "z holds NaN"),
        (torch.full((4, 3), torch.nan), torch.zeros(1, 3), "z holds NaN"),
        (torch.full((4, 3), -torch.inf), torch.ones(2000, 3), "z holds NaN or inf"),
        (torch.zeros(4, 3), torch.full((5, 3), torch.inf), "codebook holds NaN or inf"),
        (torch.full((4, 3), 1e300, dtype=torch.float64), torch.ones(5, 3), "overflow"),
        (torch.zeros(4, 3), torch.zeros(2, 5, 3), "H = 2"),
        (torch.zeros(4, 3).long(), torch.zeros(5, 3), "floating point"),
        (torch.zeros(4, 3), torch.zeros(5, 3, device="meta"), "one device"),
    ],
)
def test_search_names_what_is_wrong(z: Tensor, codebook: Tensor, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        nearest_code(z, codebook)


@pytest.mark.parametrize("k", [0, 6])
def test_top_k_names_an_impossible_k(k: int) -> None:
    with pytest.raises(ValueError, match="between 1 and the 5 codes"):
        top_k_codes(torch.zeros(4, 3), torch.zeros(5, 3), k)


def test_one_bad_vector_among_many_is_found() -> None:
    z, codebook = pair(3000, 200, 8)
    z[2999, 7] = torch.nan
    with pytest.raises(ValueError, match="z holds NaN"):
        nearest_code(z, codebook)


MEMORY = """
import torch
from vqbook.bench import peak_of_this_process
from vqbook.quantizers import nearest_code, top_k_codes
peak = lambda: 1024 * peak_of_this_process()  # MiB
codebook = torch.randn(4096, 32)
for search in (nearest_code, lambda z, e: top_k_codes(z, e, 2)):
    search(torch.randn(4096, 32), codebook)
    z = torch.randn(131072, 32)
    before = peak()
    search(z, codebook)
    print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory in Linux's unit")
def test_memory_stays_far_below_the_distance_matrix() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for extra in done.stdout.split():
        assert float(extra) < 64  # MiB; all distances at once would be 2,048


KERNEL = """
import torch
from vqbook.quantizers import nearest_code, search_triton
assert search_triton.usable(torch.zeros(1, 3))
for n, k, d in [(1, 1, 1), (130, 65, 5), (200, 300, 16), (70, 100, 130)]:
    z, e = torch.randn(n, d) * 3 + 5, torch.randn(k, d) + 5
    e[-1] = e[0]
    want = (z.double()[:, None] - e.double()).square().sum(-1).argmin(-1)
    assert torch.equal(nearest_code(z, e), want)
    half = nearest_code(z.half(), e.half())
    assert torch.equal(half, (z.half().double()[:, None] - e.half().double()).square().sum(-1).argmin(-1))
try:
    nearest_code(torch.full((3, 4), torch.nan), torch.zeros(5, 4))
except ValueError as error:
    assert "z holds NaN" in str(error)
else:
    raise AssertionError("NaN passed")
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_fused_kernel_agrees_with_the_definition_in_tritons_interpreter() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KERNEL],
        capture_output=True,
        text=True,
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("n", "k", "d"), [*SIZES, (20_000, 8192, 64)])
def test_on_a_gpu_the_answer_is_the_same(n: int, k: int, d: int) -> None:
    z, codebook = pair(n, k, d)
    assert torch.equal(nearest_code(z.cuda(), codebook.cuda()).cpu(), nearest_code(z, codebook))
    top = min(3, k)
    assert torch.equal(top_k_codes(z.cuda(), codebook.cuda(), top).cpu(), top_k_codes(z, codebook, top))
