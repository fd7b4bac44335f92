"""What holds for every quantizer: one face, who learns from what, permutations, determinism, checkpoints, bad input."""

from __future__ import annotations

import copy
import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vqbook.nets import Decoder, Encoder
from vqbook.objectives import sqvae_loss, vqvae_terms
from vqbook.quantizers import (
    AffineVectorQuantizer,
    Alternating,
    CosineVectorQuantizer,
    EMAVectorQuantizer,
    GumbelQuantizer,
    LowDimensional,
    Quantized,
    Revival,
    SQVAEQuantizer,
    VectorQuantizer,
    rotation_trick,
    synchronised,
)
from vqbook.train import fit
from vqbook.vqvae import VQVAE

K, D = 16, 6


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def codebook(kind: type, **settings: object) -> nn.Module:
    quantizer = kind(K, settings.pop("dim", D), generator=rng(), **settings)
    quantizer.codebook.data.copy_(torch.randn(quantizer.codebook.shape, generator=rng(1)))
    if "sums" in dict(quantizer.named_buffers()):
        quantizer.sums.copy_(quantizer.codebook)
    return quantizer


FAMILY: dict[str, Callable[[], nn.Module]] = {
    "plain": lambda: codebook(VectorQuantizer),
    "rotation": lambda: codebook(VectorQuantizer, estimator=rotation_trick),
    "synchronised": lambda: codebook(VectorQuantizer, estimator=synchronised(0.5)),
    "ema": lambda: codebook(EMAVectorQuantizer),
    "cosine": lambda: codebook(CosineVectorQuantizer),
    "affine": lambda: codebook(AffineVectorQuantizer),
    "affine, running": lambda: codebook(AffineVectorQuantizer, statistics="running"),
    "affine, synchronised": lambda: codebook(AffineVectorQuantizer, estimator=synchronised(1.0)),
    "alternating": lambda: Alternating(codebook(VectorQuantizer), lr=1.0),
    "alternating, affine": lambda: Alternating(codebook(AffineVectorQuantizer), lr=1.0),
    "low-dimensional": lambda: LowDimensional(codebook(VectorQuantizer, dim=2), D),
    "revival": lambda: Revival(codebook(VectorQuantizer), timeout=3),
    "revival, ema": lambda: Revival(codebook(EMAVectorQuantizer), timeout=3),
    "revival, alternating, affine": lambda: Revival(Alternating(codebook(AffineVectorQuantizer), lr=1.0)),
    "gumbel": lambda: codebook(GumbelQuantizer),
    "gumbel, hard": lambda: codebook(GumbelQuantizer, hard=True),
    **{f"sq-vae {v}": lambda v=v: codebook(SQVAEQuantizer, variant=v) for v in ("I", "II", "III", "IV")},
}


@pytest.fixture(params=list(FAMILY))
def quantizer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return FAMILY[request.param]()


def encoder_output(quantizer: nn.Module, *lead: int, seed: int = 2) -> Tensor:
    return torch.randn(*(lead or (3, 5)), quantizer.input_dim, generator=rng(seed))


def run(quantizer: nn.Module, z_e: Tensor) -> Quantized:
    torch.manual_seed(4)
    return quantizer(z_e)


def same(one: Quantized, other: Quantized) -> bool:
    return (
        torch.equal(one.z_q, other.z_q)
        and torch.equal(one.codes, other.codes)
        and torch.equal(one.usage, other.usage)
        and one.terms.keys() == other.terms.keys()
        and all(torch.equal(value, other.terms[name]) for name, value in one.terms.items())
    )


def test_one_face(quantizer: nn.Module) -> None:
    for training in (True, False):
        quantizer.train(training)
        out = run(quantizer, encoder_output(quantizer, 2, 3, 4))
        assert out.z_q.shape == (2, 3, 4, quantizer.dim)
        assert out.codes.shape == (2, 3, 4) and out.codes.dtype == out.usage.dtype == torch.int64
        assert all(value.shape == () and value.isfinite() for value in out.terms.values())
        assert torch.equal(out.usage, torch.bincount(out.codes.flatten(), minlength=quantizer.num_codes))
        if not training:
            torch.testing.assert_close(out.z_q, quantizer.lookup(out.codes))


# Who receives gradient from which term. "task" is anything that the decoder says about z_q.
PLAIN = {"task": {"z_e"}, "codebook": {"codebook"}, "commitment": {"z_e"}}
SQ = {part: {"z_e", "codebook", "log_variance"} for part in ("task", "negative_entropy", "distance")}
ALL_AFFINE = {"codebook", "scale", "shift"}
RECEIVERS: dict[str, dict[str, set[str]]] = {
    "plain": PLAIN,
    "rotation": PLAIN,
    "synchronised": {**PLAIN, "task": {"z_e", "codebook"}},
    "ema": {"task": {"z_e"}, "commitment": {"z_e"}},
    "cosine": PLAIN,
    "affine": {**PLAIN, "codebook": ALL_AFFINE},
    "affine, running": PLAIN,
    "affine, synchronised": {**PLAIN, "task": {"z_e"} | ALL_AFFINE, "codebook": ALL_AFFINE},
    "alternating": PLAIN,
    "alternating, affine": {**PLAIN, "codebook": ALL_AFFINE},
    "low-dimensional": {
        "task": {"z_e", "down.weight", "down.bias", "up.weight", "up.bias"},
        "codebook": {"codebook"},
        "commitment": {"z_e", "down.weight", "down.bias"},
    },
    "revival": PLAIN,
    "revival, ema": {"task": {"z_e"}, "commitment": {"z_e"}},
    "revival, alternating, affine": {**PLAIN, "codebook": ALL_AFFINE},
    "gumbel": {"task": {"z_e", "codebook"}, "kl": {"z_e"}},
    "gumbel, hard": {"task": {"z_e", "codebook"}, "kl": {"z_e"}},
    **{f"sq-vae {v}": SQ for v in ("I", "II", "III", "IV")},
}


@pytest.mark.parametrize(("name", "part"), [(name, part) for name in FAMILY for part in RECEIVERS[name]])
def test_who_receives_gradient(name: str, part: str) -> None:
    torch.manual_seed(0)
    quantizer = FAMILY[name]()
    z_e = encoder_output(quantizer).requires_grad_()
    out = run(quantizer, z_e)
    assert set(out.terms) | {"task"} == set(RECEIVERS[name])
    weight = torch.randn(out.z_q.shape, generator=rng(3))
    ((out.z_q * weight).sum() if part == "task" else out.terms[part]).backward()
    tensors = {"z_e": z_e, **{key.split("quantizer.")[-1]: p for key, p in quantizer.named_parameters()}}
    moved = {key for key, t in tensors.items() if t.grad is not None and t.grad.abs().sum() > 0}
    assert moved == RECEIVERS[name][part]


PER_CODE = ("codebook", "counts", "sums", "velocity", "countdown")


@pytest.mark.parametrize("training", [False, True])
def test_permuting_the_codebook_permutes_codes_and_nothing_else(quantizer: nn.Module, training: bool) -> None:
    if training and isinstance(quantizer, GumbelQuantizer | SQVAEQuantizer):
        pytest.skip("draws noise for each code by its index")
    order = torch.randperm(K, generator=rng(5))
    other = copy.deepcopy(quantizer)
    per_code = {key for key in other.state_dict() if key.split(".")[-1] in PER_CODE}
    other.load_state_dict({k: v[order] if k in per_code else v for k, v in quantizer.state_dict().items()})
    z_e = encoder_output(quantizer, 4, 9)
    z_other = z_e[..., order] if isinstance(quantizer, GumbelQuantizer) else z_e
    one, two = quantizer.train(training)(z_e), other.train(training)(z_other)
    assert torch.equal(order[two.codes], one.codes)
    assert torch.equal(two.usage, one.usage[order])
    torch.testing.assert_close(two.z_q, one.z_q)
    torch.testing.assert_close(two.terms, one.terms)
    after = other.state_dict()
    for key, value in quantizer.state_dict().items():
        torch.testing.assert_close(after[key], value[order] if key in per_code else value)


def test_the_same_seed_gives_the_same_bits(quantizer: nn.Module) -> None:
    twin = copy.deepcopy(quantizer)
    for seed in range(3):
        z_e = encoder_output(quantizer, seed=seed)
        assert same(run(quantizer, z_e), run(twin, z_e))
    theirs = twin.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in quantizer.state_dict().items())


def test_evaluation_draws_nothing_and_changes_nothing(quantizer: nn.Module) -> None:
    quantizer.eval()
    before = copy.deepcopy(quantizer.state_dict())
    z_e = encoder_output(quantizer)
    assert same(quantizer(z_e), quantizer(z_e))
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


def test_a_state_dict_holds_everything(quantizer: nn.Module) -> None:
    for seed in range(4):
        run(quantizer, encoder_output(quantizer, seed=seed))
    fresh = copy.deepcopy(quantizer)
    for tensor in (*fresh.parameters(), *fresh.buffers()):
        tensor.data.zero_()
    fresh.load_state_dict(quantizer.state_dict())
    z_e = encoder_output(quantizer, seed=9)
    assert same(run(quantizer, z_e), run(fresh, z_e))


def loss(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    out = model(x)
    if isinstance(model.quantizer, SQVAEQuantizer):
        return sqvae_loss(x, out), {}
    terms = vqvae_terms(x, out)
    return sum(terms.values()), terms


@pytest.mark.parametrize(
    "name", ["revival, ema", "revival, alternating, affine", "affine, running", "gumbel", "sq-vae IV"]
)
def test_an_interrupted_fit_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    x = torch.rand(24, 1, 8, 8, generator=rng())

    def model() -> VQVAE:
        torch.manual_seed(0)
        quantizer = FAMILY[name]()
        return VQVAE(
            Encoder(1, hidden=4, dim=quantizer.input_dim), quantizer, Decoder(1, hidden=4, dim=quantizer.dim)
        )

    settings = dict(batch_size=4, device="cpu", progress=False, log_every=1)
    whole, parts = model(), model()
    history = fit(whole, x, loss, steps=30, **settings)
    fit(parts, x, loss, steps=13, checkpoint=tmp_path / "run", **settings)
    parts = model()
    resumed = fit(parts, x, loss, steps=30, checkpoint=tmp_path / "run", **settings)
    assert resumed.terms == history.terms
    theirs = parts.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in whole.state_dict().items())
    out = whole(x)
    torch.testing.assert_close(whole.decode(out.quantized.codes), out.x_hat)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(quantizer: nn.Module, dtype: torch.dtype) -> None:
    twin = copy.deepcopy(quantizer)
    z_e = encoder_output(quantizer).to(dtype)
    out = run(quantizer, z_e)
    assert out.z_q.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in out.terms.values())
    assert same(out, run(twin, z_e.float()))


def test_autocast_is_kept_out_of_the_choice(quantizer: nn.Module) -> None:
    if isinstance(quantizer, LowDimensional):
        pytest.skip("its linear maps are the network's, and follow autocast")
    twin = copy.deepcopy(quantizer)
    z_e = encoder_output(quantizer)
    with torch.autocast("cpu", torch.bfloat16):
        out = run(quantizer, z_e)
    assert same(out, run(twin, z_e))


def test_wrong_input_is_named(quantizer: nn.Module) -> None:
    width = quantizer.input_dim
    before = copy.deepcopy(quantizer.state_dict())
    with pytest.raises(ValueError, match=rf"\(\.\.\., {width}\), got \(3, {width + 1}\); images go"):
        quantizer(torch.zeros(3, width + 1))
    with pytest.raises(ValueError, match="no vectors"):
        quantizer(torch.zeros(0, width))
    if not isinstance(quantizer, GumbelQuantizer | SQVAEQuantizer):
        with pytest.raises(ValueError, match="NaN"):
            quantizer.eval()(torch.full((3, width), torch.nan))
    assert all(torch.equal(value, before[key]) for key, value in quantizer.state_dict().items())


def test_no_graph_outlives_its_step(quantizer: nn.Module) -> None:
    for seed in range(3):
        z_e = encoder_output(quantizer, seed=seed).requires_grad_()
        out = run(quantizer, z_e * 1)
        (out.z_q.sum() + sum(out.terms.values())).backward()  # fails on a graph that was used before
        alive = weakref.ref(z_e)
        del out, z_e
        gc.collect()
        assert alive() is None
    assert all(buffer.grad_fn is None for buffer in quantizer.buffers())


WITH_BREAKS = ("alternating", "revival")  # a gradient inside forward; a choice that depends on data


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("plain", "eager"),
        *((name, "aot_eager") for name in FAMILY if name not in ("gumbel, hard", "sq-vae II", "sq-vae III")),
    ],
)
def test_compiled_layers_give_the_same(name: str, backend: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    quantizer = FAMILY[name]()
    twin = copy.deepcopy(quantizer)
    compiled = torch.compile(twin, backend=backend, fullgraph=not name.startswith(WITH_BREAKS))
    for seed in range(2):
        one, two = (encoder_output(quantizer, seed=seed).requires_grad_() for _ in range(2))
        out, fast = run(quantizer, one), run(compiled, two)
        assert torch.equal(out.codes, fast.codes)
        torch.testing.assert_close(fast.z_q, out.z_q)
        (out.z_q.square().sum() + sum(out.terms.values())).backward()
        (fast.z_q.square().sum() + sum(fast.terms.values())).backward()
        torch.testing.assert_close(two.grad, one.grad)
    torch.testing.assert_close(twin.state_dict(), quantizer.state_dict())
    for theirs, ours in zip(twin.parameters(), quantizer.parameters(), strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", list(FAMILY))
def test_cpu_and_gpu_agree(name: str) -> None:
    torch.manual_seed(0)
    quantizer = FAMILY[name]()
    noisy = isinstance(quantizer, GumbelQuantizer | SQVAEQuantizer)
    twin = copy.deepcopy(quantizer).cuda()
    for seed in range(5):
        z_e = encoder_output(quantizer, seed=seed)
        one, two = quantizer.train(not noisy)(z_e), twin.train(not noisy)(z_e.cuda())
        assert torch.equal(one.codes, two.codes.cpu())
        torch.testing.assert_close(two.z_q.cpu(), one.z_q)
    theirs = {key: value.cpu() for key, value in twin.state_dict().items()}
    torch.testing.assert_close(theirs, dict(quantizer.state_dict()))
    twin.train()(z_e.cuda())
