"""The mixture quantizer: its definition written out again, who learns from what, and what it does under strain."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vqbook.objectives import aggregate_kl, code_kl, gmvq_loss, gmvq_terms, latent_kl
from vqbook.quantizers import GaussianMixtureQuantizer, Quantized, VectorQuantizer, gmvq
from vqbook.quantizers.gmvq import EPS
from vqbook.quantizers.soft_lookup import soft_lookup
from vqbook.vqvae import VQVAEOutput

K, D, N = 12, 5, 40
ALL = ("distance", "latent_kl", "aggregate_kl", "code_kl")
IN_BLOCKS = {"mixing": "variance", "terms": ("distance", "aggregate_kl", "code_kl")}
DENSE = {"mixing": "deviation", "terms": ("distance", "aggregate_kl", "code_kl")}


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(dtype: torch.dtype = torch.float64, **settings: object) -> GaussianMixtureQuantizer:
    settings = {"sigma": 0.8, "sigma_z": 0.6, "start": 0.7, "end": 0.7, **settings}
    quantizer = GaussianMixtureQuantizer(K, D, generator=rng(0), **settings).to(dtype)
    quantizer.raw_weights.data += torch.randn(D, generator=rng(5)).to(dtype)
    return quantizer


def inputs(dtype: torch.dtype = torch.float64, n: int = N) -> Tensor:
    return torch.randn(n, D, generator=rng(1)).to(dtype)


def naive(quantizer: GaussianMixtureQuantizer, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Everything by the formulas, one difference of vectors at a time; noise as soft_lookup draws it."""
    mu, w = quantizer.codebook, quantizer.weights
    difference = z[:, None] - mu  # (N, K, D)
    energy = (difference.square() * w).sum(-1)
    log_q = (-0.5 * energy - math.log(K)).log_softmax(-1)
    gumbel = -(-torch.empty_like(energy).uniform_().log()).log()
    y = ((log_q + gumbel) / quantizer.temperature).softmax(-1)
    variance = difference.square().sum(-1) / (2 * quantizer.sigma**2 * D)
    if quantizer.mixing == "variance":
        deviation = ((y * variance).sum(-1, keepdim=True) + EPS).sqrt()
    else:
        deviation = (y * (variance + EPS).sqrt()).sum(-1, keepdim=True)
    z_q = y @ mu + deviation * torch.randn_like(z)
    prior = log_q.new_full((K,), -math.log(K))
    terms = {
        "distance": (log_q.exp() * energy).sum(-1).mean(),
        "latent_kl": (log_q.exp() * latent_kl(variance, quantizer.sigma_z, D)).sum(-1).mean(),
        "aggregate_kl": aggregate_kl(log_q, prior),
        "code_kl": code_kl(log_q, prior),
    }
    return z_q, terms


@pytest.fixture
def uniform_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dense path draws its Gumbel noise as the one in blocks does, so that seeds can be compared."""

    def softmax(log_q: Tensor, temperature: Tensor) -> Tensor:
        gumbel = -(-torch.empty_like(log_q).uniform_().log()).log()
        return ((log_q + gumbel) / temperature).softmax(-1)

    monkeypatch.setattr(gmvq, "gumbel_softmax", softmax)


@pytest.mark.parametrize(
    "settings",
    [IN_BLOCKS, DENSE, {"terms": ALL}, {"terms": ALL, "mixing": "deviation"}],
    ids=["in blocks", "dense", "dense, all terms", "deviations"],
)
@pytest.mark.usefixtures("uniform_noise")
def test_values_and_gradients_are_those_of_the_definition(settings: dict) -> None:
    quantizer, z = made(**settings), inputs().requires_grad_()
    learned = (z, quantizer.codebook, quantizer.raw_weights)
    results = []
    for way in (lambda: quantizer(z)[::2], lambda: naive(quantizer, z)):
        torch.manual_seed(0)
        z_q, terms = way()
        total = z_q.sin().sum() + sum((2 + i) * terms[name] for i, name in enumerate(quantizer.terms))
        results.append((z_q, total, *torch.autograd.grad(total, learned)))
    for ours, want in zip(*results, strict=True):
        torch.testing.assert_close(ours, want, rtol=1e-7, atol=1e-7)


def lookup_inputs(n: int = 15, k: int = 7, d: int = 3, v: int = 2) -> list[Tensor]:
    shapes = ((n, d), (k, d), (k,), (k, v))
    return [
        torch.randn(*s, generator=rng(i), dtype=torch.float64).requires_grad_() for i, s in enumerate(shapes)
    ]


def test_soft_lookup_has_the_gradient_of_its_values() -> None:
    def seeded(*tensors: Tensor) -> tuple[Tensor, ...]:
        torch.manual_seed(3)
        return soft_lookup(*tensors, torch.tensor(0.5).double())[:4]

    assert torch.autograd.gradcheck(seeded, lookup_inputs())


def test_soft_lookup_does_not_depend_on_blocks_or_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    from vqbook.quantizers import soft_lookup as module

    tensors, found = lookup_inputs(), []
    before = torch.get_num_threads()
    for entries, threads in ((1 << 18, 1), (3 * 7, 1), (1, 1), (3 * 7, 2)):
        monkeypatch.setattr(module, "_ENTRIES", entries)
        torch.set_num_threads(threads)
        try:
            torch.manual_seed(3)
            out = soft_lookup(*tensors, torch.tensor(0.5).double())
            total = sum(part.sin().sum() for part in out[:4])
            found.append([*out, *torch.autograd.grad(total, tensors)])
        finally:
            torch.set_num_threads(before)
    for other in found[1:]:
        for ours, want in zip(other, found[0], strict=True):
            torch.testing.assert_close(ours, want, rtol=1e-12, atol=1e-12)


def test_what_is_left_out_is_below_the_bound() -> None:
    """Rows so sharp that most probabilities vanish: totals stay one within K times 1e-12, and nothing is denormal."""
    k = 2000
    scores = torch.linspace(0, -200, k, dtype=torch.float64)
    out = soft_lookup(
        torch.zeros(50, 1).double(),
        torch.zeros(k, 1).double(),
        scores,
        torch.eye(k).double(),
        torch.tensor(0.3).double(),
    )
    for totals in (out.read.sum(-1), out.usage.sum() / 50):
        assert (totals - 1).abs().max() <= k * 1e-12
    assert out.read[out.read > 0].min() >= 1e-12
    exact = scores.softmax(0)
    assert (out.usage / 50 - exact).abs().max() <= 1e-12
    assert out.score[0] == pytest.approx(float((exact * scores).sum()), abs=k * 1e-12 * 60)


@pytest.mark.parametrize("settings", [IN_BLOCKS, DENSE], ids=["in blocks", "dense"])
def test_nothing_is_stopped_averaged_or_committed(settings: dict) -> None:
    """The gradient of the whole loss is its slope, for encoder output, means and weights alike."""
    quantizer, z = made(**settings), inputs(n=8).requires_grad_()
    x = torch.rand(2, 1, 4, 5, generator=rng(3), dtype=torch.float64)

    def loss() -> Tensor:
        torch.manual_seed(0)  # common random numbers
        quantizer.step.zero_()
        found = quantizer(z.reshape(2, 2, 2, D))
        out = VQVAEOutput(found.z_q.reshape(x.shape).tanh(), z.reshape(2, 2, 2, D), found)
        return gmvq_loss(x, out, beta=0.7, gamma=0.3, lam=0.5)

    learned = {"z_e": z, **dict(quantizer.named_parameters())}
    assert set(learned) == {"z_e", "codebook", "raw_weights"}
    buffers = {name: b.clone() for name, b in quantizer.named_buffers() if name != "step"}
    gradients = torch.autograd.grad(loss(), list(learned.values()))
    for tensor, gradient in zip(learned.values(), gradients, strict=True):
        differences = torch.zeros_like(gradient).flatten()
        with torch.no_grad():
            for i, value in enumerate(tensor.detach().flatten().tolist()):
                ends = []
                for moved in (value + 1e-6, value - 1e-6):
                    tensor.view(-1)[i] = moved
                    ends.append(loss())
                tensor.view(-1)[i] = value
                differences[i] = (ends[0] - ends[1]) / 2e-6
        torch.testing.assert_close(gradient.flatten(), differences, rtol=1e-5, atol=1e-8)
    assert {"step", *buffers} == {"step", "scale", "aggregate"}
    for name, value in buffers.items():
        assert torch.equal(dict(quantizer.named_buffers())[name], value), name


def test_terms_that_are_not_asked_for_are_not_there() -> None:
    assert set(made()(inputs()).terms) == {"distance", "aggregate_kl"}
    assert set(made(terms=())(inputs()).terms) == set()
    with pytest.raises(ValueError, match="commitment"):
        made(terms=("commitment",))


def test_evaluation_is_the_nearest_mean_in_the_metric() -> None:
    quantizer, z = made(terms=ALL).eval(), inputs()
    first, second = quantizer(z), quantizer(z)
    assert torch.equal(first.z_q, second.z_q)
    energy = ((z[:, None] - quantizer.codebook).square() * quantizer.weights).sum(-1)
    assert torch.equal(first.codes, energy.argmin(-1))
    assert torch.equal(first.z_q, quantizer.codebook[first.codes])
    assert torch.equal(first.usage, torch.bincount(first.codes, minlength=K))
    torch.testing.assert_close(quantizer.logits(z), -0.5 * energy - math.log(K))
    torch.testing.assert_close(quantizer.posterior(z).exp().sum(-1), torch.ones(N).double())
    for name, value in naive(quantizer, z)[1].items():
        torch.testing.assert_close(first.terms[name], value, msg=name)
    assert quantizer.step == 0


def test_codes_are_named_by_place_alone() -> None:
    quantizer, z, order = made().eval(), inputs(), torch.randperm(K, generator=rng(2))
    before = quantizer(z)
    quantizer.codebook.data = quantizer.codebook.data[order]
    after = quantizer(z)
    assert torch.equal(order[after.codes], before.codes)
    assert torch.equal(after.z_q, before.z_q)


@pytest.mark.parametrize("settings", [IN_BLOCKS, DENSE], ids=["in blocks", "dense"])
def test_a_seed_repeats_a_step(settings: dict) -> None:
    quantizer = made(torch.float32, **settings)
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        z = inputs(torch.float32).requires_grad_()
        out = quantizer(z)
        out.z_q.square().sum().backward()
        found.append((out.z_q.detach(), z.grad))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not torch.equal(found[0][0], found[2][0])


def test_shapes_and_temperature() -> None:
    quantizer = made(torch.float32, start=1.0, end=0.25, steps=4)
    seen = []
    for _ in range(6):
        seen.append(round(float(quantizer.temperature), 4))
        out = quantizer(inputs(torch.float32).reshape(2, 4, 5, D))
    assert seen == [1.0, 0.7071, 0.5, 0.3536, 0.25, 0.25]
    assert isinstance(out, Quantized) and out.z_q.shape == (2, 4, 5, D) and out.codes.shape == (2, 4, 5)
    quantizer.eval()(inputs(torch.float32))
    assert quantizer.step == 6


@pytest.mark.parametrize("settings", [IN_BLOCKS, DENSE], ids=["in blocks", "dense"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(settings: dict, dtype: torch.dtype) -> None:
    quantizer, z = made(torch.float32, **settings), inputs(dtype).requires_grad_()
    torch.manual_seed(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quantizer(z)
        assert quantizer.logits(z).dtype == torch.float32
    torch.manual_seed(0)
    quantizer.step.zero_()
    want = quantizer(z.detach().float())
    assert out.z_q.dtype == torch.float32 and torch.equal(out.z_q, want.z_q)
    (out.z_q.sum() + out.terms["aggregate_kl"]).backward()
    assert z.grad.dtype == dtype and z.grad.isfinite().all()


@pytest.mark.parametrize("settings", [IN_BLOCKS, DENSE, {"terms": ALL}], ids=["in blocks", "dense", "all"])
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1.0, 1e4])
def test_gradients_are_finite_on_top_of_a_mean_and_far_away(settings: dict, scale: float) -> None:
    quantizer = made(torch.float32, **{**settings, "start": 0.01, "end": 0.01})
    z = (quantizer.codebook.detach() + scale * torch.ones(D)).requires_grad_()
    out = quantizer(z)
    (out.z_q.sum() + sum(out.terms.values())).backward()
    for gradient in (z.grad, quantizer.codebook.grad, quantizer.raw_weights.grad):
        assert gradient.isfinite().all()


def test_the_running_aggregate_gives_prices_without_being_learned_through() -> None:
    """With decay 0 it is the batch; otherwise the present rows pay the prices of the average."""
    z = inputs().requires_grad_()

    def gradient(quantizer: GaussianMixtureQuantizer) -> tuple[Tensor, Tensor]:
        term = quantizer(z).terms["aggregate_kl"]
        return term.detach(), torch.autograd.grad(term, z)[0]

    plain, none = gradient(made()), gradient(made(ema=0.0))
    for ours, want in zip(none, plain, strict=True):
        torch.testing.assert_close(ours, want)
    quantizer, held = made(ema=0.9), torch.full((K,), 1 / K).double()
    for _ in range(3):
        value, found = gradient(quantizer)
        q = quantizer.posterior(z).exp()
        held = 0.9 * held + 0.1 * q.mean(0).detach()
        prices = (held * K).log()
        torch.testing.assert_close(quantizer.aggregate, held)
        torch.testing.assert_close(value, (held * prices).sum())
        torch.testing.assert_close(found, torch.autograd.grad((q.mean(0) * prices).sum(), z)[0])
    assert torch.equal(quantizer.eval()(z).terms["aggregate_kl"].detach(), value) and not held.requires_grad
    torch.testing.assert_close(quantizer.aggregate, held)


def test_the_start_is_where_the_data_is_whatever_its_scale() -> None:
    z = torch.randn(600, D, generator=rng(1)) * torch.tensor([1.0, 2.0, 0.1, 0.5, 1.0]) + 3
    found = []
    for scale in (1.0, 0.01):
        quantizer = GaussianMixtureQuantizer(K, D, spread=7.0, generator=rng(0))
        quantizer.initialise(scale * z, rng(2))
        spread = (scale * (z - z.mean(0))).square() @ quantizer.weights
        assert spread.mean().detach() == pytest.approx(7.0, rel=1e-4)
        found.append(quantizer.posterior(scale * z))
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)
    plain = VectorQuantizer(K, D)
    plain.initialise(scale * z, rng(2))
    assert torch.equal(plain.codebook, quantizer.codebook)
    again = GaussianMixtureQuantizer(K, D)
    again.load_state_dict(quantizer.state_dict())
    assert torch.equal(again.posterior(z), quantizer.posterior(z))
    with pytest.raises(ValueError, match="equal"):
        quantizer.initialise(torch.ones(100, D))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"sigma": 0.0}, "sigma"),
        ({"spread": -1.0}, "spread"),
        ({"sigma_z": math.inf}, "sigma_z"),
        ({"mixing": "both"}, "mixing"),
        ({"ema": 1.0}, "ema"),
        ({"end": 0.0}, "end"),
        ({"num_codes": 0}, "num_codes"),
    ],
)
def test_bad_settings_are_named(settings: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GaussianMixtureQuantizer(**{"num_codes": K, "dim": D, **settings})


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="must be"):
        made()(torch.ones(3, D + 1))
    with pytest.raises(ValueError, match="no vectors"):
        made()(torch.ones(0, D))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("settings", [IN_BLOCKS, DENSE], ids=["in blocks", "dense"])
def test_a_gpu_finds_the_same_terms(settings: dict) -> None:
    results = []
    for device in ("cpu", "cuda"):
        quantizer = made(torch.float32, **settings).to(device)
        z = inputs(torch.float32).to(device).requires_grad_()
        out = quantizer(z)
        sum(out.terms.values()).backward()
        parts = [*out.terms.values(), out.codes, z.grad, quantizer.codebook.grad]
        results.append([part.detach().cpu() for part in parts])
    for ours, want in zip(*results, strict=True):
        torch.testing.assert_close(ours, want, rtol=1e-4, atol=1e-4)


def output(terms: tuple[str, ...] = ("distance", "aggregate_kl")) -> tuple[Tensor, VQVAEOutput]:
    x, z = torch.rand(3, 1, 4, 4, generator=rng(0)), torch.randn(3, 2, 2, D, generator=rng(1))
    return x, VQVAEOutput(x + 0.1, z, made(torch.float32, terms=terms)(z))


def test_weights_are_for_sums_over_an_image() -> None:
    x, out = output(ALL)
    terms = gmvq_terms(x, out)
    loss: Callable[..., Tensor] = lambda **weights: gmvq_loss(x, out, **weights)  # noqa: E731
    bare = loss(beta=0.0)
    torch.testing.assert_close(bare, terms["reconstruction"])
    per = 4 / 16  # positions for each number of an image
    torch.testing.assert_close(loss(beta=2.0) - bare, 2 * per * terms["aggregate_kl"])
    torch.testing.assert_close(loss(beta=2.0, lam=0.0) - bare, 2 * per * terms["code_kl"])
    torch.testing.assert_close(
        loss(beta=2.0, lam=3.0) - bare, 2 * per * (3 * terms["aggregate_kl"] - 2 * terms["code_kl"])
    )
    torch.testing.assert_close(loss(beta=0.0, gamma=3.0) - bare, 3 * per * terms["distance"])
    torch.testing.assert_close(loss(beta=0.0, latent=3.0) - bare, 3 * per * terms["latent_kl"])


def test_a_weight_without_its_term_is_named() -> None:
    x, out = output()
    assert gmvq_loss(x, out, beta=1.0, gamma=1.0).isfinite()
    with pytest.raises(ValueError, match="code_kl"):
        gmvq_loss(x, out, beta=1.0, lam=0.5)
    with pytest.raises(ValueError, match="latent_kl"):
        gmvq_loss(x, out, beta=1.0, latent=0.5)
    other = VQVAEOutput(x, out.z_e, VectorQuantizer(K, D)(out.z_e))
    with pytest.raises(ValueError, match="commitment"):
        gmvq_loss(x, other, beta=1.0)
