"""GM-VQ put on trial, one change at a time: the experiments of chapter 8.

One encoder, one decoder, one data set and one number of steps. A row says what is between encoder and decoder, what is
optimised, and nothing else. Each finished row is kept in a file of its own, so an interrupted study goes on where it
stopped.
"""

from __future__ import annotations

import base64
import io
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vqbook import remedies
from vqbook.experiments import COMMIT_WEIGHT, Outcome, device_words, finished
from vqbook.gradient_bias import measure_bias
from vqbook.metrics import evaluate_vqvae, perplexity
from vqbook.nets import Decoder, Encoder
from vqbook.objectives import categorical_kl, gmvq_loss, gmvq_terms
from vqbook.quantizers import GaussianMixtureQuantizer, PricedVectorQuantizer, Revival, VectorQuantizer
from vqbook.quantizers.gmvq import root
from vqbook.remedies import split
from vqbook.results import atomic_write
from vqbook.train import Loss, fit, pick_device, seed_everything, to_unit
from vqbook.vqvae import VQVAE, VQVAEOutput

Kind = Literal["gmvq", "vq", "revival", "priced"]
BETA, GAMMA, SPREAD, TIMEOUT = 0.3, 0.0003, 5.0, 5
LEVELS = (0.0, 0.1, 1.0, 10.0)  # times the weight that a kind is known by
METRICS = ("mse", "perplexity", "active_codes")
SHOWN = 8  # test images whose reconstructions are kept


@dataclass(frozen=True)
class Row:
    """One way to train: a quantizer, an objective, and what is fixed for both.

    Attributes:
        kind: the quantizer: "gmvq"; "vq", plain; "revival", plain with restarts; "priced", hard with prices.
        factor: times the weight that the kind is known by: BETA for "gmvq" and "priced", COMMIT_WEIGHT for the others.
        gamma: γ, the pull, as gmvq_loss has it.
        latent: κ, weight of the whole latent KL: above zero for reading P.
        sigma_z: scale of p(z | c), in the latent KL.
        lam: λ of $J_\\lambda$.
        group: positions in an aggregate, 0 for all of the batch.
        by_image: the positions of a group are neighbours in one image, not drawn at random.
        ema: decay of the aggregate's running average, or None.
        sigma: σ of the noise rule; inf for no noise.
        mixing: of the codes' noise.
        end: τ at the end.
        spread: mean squared distance of encoder outputs from their centre in W at the start: how sharp q is.
        kmeans: whether the codes start by k-means on the untrained encoder's outputs.
        batch: images in a batch, 0 for the settings' own.
        codes: K, 0 for the settings' own.
        longer: times the settings' own number of steps.
        probe: measure the bias of the gradient during training.
        show: keep reconstructions.
    """

    kind: Kind = "gmvq"
    factor: float = 1.0
    gamma: float = GAMMA
    latent: float = 0.0
    sigma_z: float = 1.0
    lam: float = 1.0
    group: int = 0
    by_image: bool = False
    ema: float | None = None
    sigma: float = math.sqrt(0.5)
    mixing: Literal["variance", "deviation"] = "variance"
    end: float = 0.5
    spread: float = SPREAD
    kmeans: bool = True
    batch: int = 0
    codes: int = 0
    longer: int = 1
    probe: bool = False
    show: bool = False

    @property
    def beta(self) -> float:
        """β, the weight of the code term, or of the prices."""
        return BETA * self.factor


def _levels(name: str, factors: Sequence[float] = LEVELS, **fixed: Any) -> dict[str, Row]:
    return {f"{name}_{factor:g}": Row(factor=factor, **fixed) for factor in factors}


ROWS: dict[str, Row] = {
    **_levels("gmvq", (*LEVELS, 100.0), show=True),
    **_levels("vq", kind="vq", kmeans=False, show=True),
    **_levels("revival", kind="revival", show=True),
    **_levels("elbo", (0.1, 10.0), lam=0.0, show=True),
    **{f"lambda_{lam:g}": Row(lam=lam, probe=True, show=True) for lam in (0.0, 1.0, 2.0)},
    **{f"group_{group}": Row(group=group) for group in (4, 64)},
    "group_image": Row(group=64, by_image=True),
    "ema": Row(ema=0.9),
    **{f"batch_{batch}": Row(batch=batch) for batch in (4, 32)},
    **{f"batch_{batch}_revival": Row("revival", batch=batch) for batch in (4, 32)},
    **{f"gamma_{g}_{f:g}": Row(factor=f, gamma=g * GAMMA) for f in (0.1, 1.0) for g in (0, 10)},
    "gamma_3_1": Row(gamma=3 * GAMMA),
    **{f"spread_{spread:g}": Row(spread=spread) for spread in (0.5, 50.0, 1.5, 15.0)},
    "whole_wide": Row(gamma=0, latent=BETA, sigma_z=0.65),
    "whole_narrow": Row(gamma=0, latent=BETA, sigma_z=0.05),
    "noiseless": Row(sigma=math.inf),
    "kmeans": Row("vq"),
    **_levels("priced", kind="priced", show=True),
    **{f"K{codes}_{kind}": Row(kind, codes=codes) for codes in (64, 512) for kind in ("revival", "gmvq")},
    "long_vq": Row("vq", 10, kmeans=False, longer=4),
    "long_revival": Row("revival", longer=4),
    "long_gmvq": Row(longer=4),
    "cold": Row(end=0.1),
    "warm": Row(end=1.0),
}
TRIED = ("spread_1.5", "spread_15", "gamma_3_1", "cold", "warm")  # on held-out images only
FIGURE4_ROWS = [name for name in ROWS if name.startswith("gmvq_")]
STUDY_ROWS = [name for name in ROWS if name not in (*FIGURE4_ROWS, *TRIED)]
SETTINGS_ROWS = [
    *("gmvq_1", "gamma_0_1", *TRIED),
    *("revival_0.1", "revival_1", "revival_10", "vq_1", "vq_10"),
]
FACES_ROWS = ["vq_1", "revival_1", "gmvq_1", "gmvq_10"]


def build(row: Row, s: dict[str, Any], x: Tensor, seed: int) -> VQVAE:
    """The autoencoder of a row. Encoder and decoder of a seed start alike in every row.

    Args:
        row: what is between them.
        s: settings, one profile of GMVQ_STUDY.
        x: training images; of some of them k-means makes the first codes.
        seed: of all initial weights.
    """
    seed_everything(seed)
    encoder, decoder = (net(x.shape[1], hidden=s["hidden"], dim=s["dim"]) for net in (Encoder, Decoder))
    model = VQVAE(encoder, _quantizer(row, row.codes or s["codes"], s), decoder)
    if row.kmeans:
        remedies.kmeans_start(model, x[: s["warm_up"]], seed)
    return model


def _quantizer(row: Row, num_codes: int, s: dict[str, Any]) -> Any:
    if row.kind == "gmvq":
        names = {"distance": row.gamma, "latent_kl": row.latent, "aggregate_kl": 1, "code_kl": 1}
        return GaussianMixtureQuantizer(
            num_codes,
            s["dim"],
            sigma=row.sigma,
            sigma_z=row.sigma_z,
            spread=row.spread,
            mixing=row.mixing,
            end=row.end,
            steps=max(1, 4 * row.longer * s["steps"] // 5),
            ema=row.ema,
            terms=[name for name, weight in names.items() if weight],
        )
    if row.kind == "priced":
        return PricedVectorQuantizer(num_codes, s["dim"], beta=row.beta)
    plain = VectorQuantizer(num_codes, s["dim"])
    return Revival(plain, TIMEOUT) if row.kind == "revival" else plain


def loss(row: Row) -> Loss:
    """What a row minimises, as `fit` takes it; the entropies of the codes are logged beside the terms."""
    if row.kind != "gmvq":
        return remedies.loss(COMMIT_WEIGHT * (1 if row.kind == "priced" else row.factor))

    def total(model: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        out = model(x)
        terms = {**gmvq_terms(x, out), "batch_perplexity": perplexity(out.quantized.usage)}
        return mixture_loss(row, model, x, out), terms

    return total


def mixture_loss(row: Row, model: nn.Module, x: Tensor, out: VQVAEOutput) -> Tensor:
    """gmvq_loss with the weights of a row, whose aggregate may be that of a part of the batch."""
    weights = {"gamma": row.gamma, "latent": row.latent, "lam": row.lam}
    if not row.group:
        return gmvq_loss(x, out, beta=row.beta, **weights)
    quantizer: Any = model.quantizer  # type: ignore[union-attr]
    kl = grouped_kl(quantizer.posterior(out.z_e), quantizer.log_prior, row.group, by_image=row.by_image)
    positions = out.z_e[0, ..., 0].numel()
    return gmvq_loss(x, out, beta=0.0, **weights) + row.beta * positions / x[0].numel() * kl


def grouped_kl(log_q: Tensor, log_prior: Tensor, group: int, *, by_image: bool = False) -> Tensor:
    r"""ALBO's code term with an aggregate of few positions: the mean of $\mathrm{KL}(\hat q_G \Vert p)$ over groups G.

    Args:
        log_q: normalised, (..., K), M rows.
        log_prior: (K,).
        group: positions in a group, a divisor of M. One is the ELBO's code term, M is aggregate_kl.
        by_image: rows that follow each other make a group; by default groups are drawn at random.
    Returns:
        Nats per position, a scalar.
    Raises:
        ValueError: the group does not divide M.

    Chapters 7 and 8.
    """
    q = log_q.exp().reshape(-1, log_q.shape[-1])
    if group < 1 or len(q) % group:
        raise ValueError(f"group must divide the {len(q)} positions, got {group}")
    if not by_image:
        q = q[torch.randperm(len(q)).to(q.device)]
    return categorical_kl(q.reshape(-1, group, q.shape[-1]).mean(1), log_prior).mean()


def probe(
    model: VQVAE, x: Tensor, generator: torch.Generator, *, positions: int, samples: int
) -> dict[str, float]:
    """Bias of the Gumbel-Softmax gradient of a model in training, by enumeration of one position at a time.

    One position of each of the first images is free. The others stand at their likeliest code, and the Gaussian noise
    is drawn once. The loss is the image's squared error; the gradient is that with respect to the K logits.

    Args:
        model: with a GaussianMixtureQuantizer, as it stands.
        x: images it does not learn from, at least `positions` of them.
        generator: of positions and noise.
        positions: how many.
        samples: relaxed gradients for each.
    Returns:
        Means over the positions: "entropy" of q(c | x) in nats, "size" of the exact gradient, "bias" and "noise", the
        Monte Carlo error of the mean, all lengths; "relative", the root of mean squared bias over mean squared size;
        and the "temperature".
    """
    quantizer: Any = model.quantizer
    device = quantizer.codebook.device
    temperature = float(quantizer.temperature)
    model.eval()
    found = []
    with torch.no_grad():
        pixels = to_unit(x[:positions]).to(device)
        z = model.encoder(pixels).permute(0, 2, 3, 1)  # (P, h, w, D)
        logits, variances = quantizer.posterior(z), quantizer.variances(z)  # (P, h, w, K)
        likeliest = quantizer.lookup(logits.argmax(-1))
    for image in range(positions):
        row, column = (int(torch.randint(side, (), generator=generator)) for side in z.shape[1:3])
        noise = torch.randn(z.shape[-1], generator=generator).to(device)

        def f(
            y: Tensor, i: int = image, at: tuple[int, int] = (row, column), noise: Tensor = noise
        ) -> Tensor:
            flat = y.reshape(-1, y.shape[-1]).to(noise)
            free = flat @ quantizer.codebook.detach() + root(flat @ variances[i][at])[:, None] * noise
            grid = likeliest[i].expand(len(flat), *likeliest[i].shape).clone()
            grid[:, at[0], at[1]] = free
            x_hat = model.decoder(grid.permute(0, 3, 1, 2))
            return (x_hat - pixels[i]).square().sum((1, 2, 3)).reshape(y.shape[:-1]).to(y.dtype)

        found.append(
            measure_bias(
                f, logits[image, row, column][None].cpu(), generator, samples=samples, temperature=temperature
            )
        )
    model.train()
    bias_sq, size = torch.cat([p.bias_sq for p in found]), torch.cat([p.size for p in found])
    return {
        "entropy": torch.cat([p.entropy for p in found]).mean().item(),
        "size": size.mean().item(),
        "bias": bias_sq.clamp_min(0).sqrt().mean().item(),
        "noise": torch.cat([p.noise for p in found]).mean().item(),
        "relative": (bias_sq.mean().clamp_min(0) / size.square().mean().clamp_min(1e-30)).sqrt().item(),
        "temperature": temperature,
    }


def train_row(
    name: str,
    s: dict[str, Any],
    x: Tensor,
    held: Tensor,
    measured_on: Tensor,
    *,
    seed: int,
    folder: Path | None,
    progress: bool = True,
) -> dict[str, Any]:
    """Train one row and measure it; take the result from `folder` if it is there already.

    Args:
        name: a key of ROWS.
        s: settings.
        x: images to learn from.
        held: images to probe gradients on.
        measured_on: images to measure on.
        seed: of weights and batches.
        folder: where finished results and checkpoints of interrupted runs are kept, or None.
        progress: show a bar.
    Returns:
        {"settings", "values", "history", "probe", "pictures", "seconds"}.
    Raises:
        ValueError: the folder holds a result of other settings.
    """
    row = ROWS[name]
    used = {**{k: v for k, v in s.items() if k != "rows"}, "seed": seed, "row": _plain(row)}
    stem = folder and folder / name
    if (result := finished(stem, used)) is not None:
        return result
    model, probes = build(row, s, x, seed), []
    stops = sorted({*(s["probes"] if row.probe else []), row.longer * s["steps"]})
    with tempfile.TemporaryDirectory() as spare:
        checkpoint = (folder or Path(spare)) / f"{name}.safetensors"
        for stop in stops:  # fit goes on from its checkpoint, as after an interruption
            if row.probe and stop == 0:
                probes.append({"step": 0, **_probed(model, held, s, seed)})
                continue
            history = fit(
                model,
                x,
                loss(row),
                steps=stop,
                batch_size=row.batch or s["batch"],
                lr=s["lr"],
                seed=seed,
                checkpoint=checkpoint,
                progress=progress,
            )
            if row.probe:
                probes.append({"step": stop, **_probed(model, held, s, seed)})
    result = {
        "settings": used,
        "values": {**evaluate_vqvae(model, measured_on), **posterior_values(model, measured_on)},
        "history": history.as_dict(),
        "probe": {key: [point[key] for point in probes] for key in (probes[0] if probes else ())},
        "pictures": reconstructions(model, measured_on[:SHOWN]) if row.show and seed == 0 else "",
        "seconds": history.seconds,
    }
    if stem is not None:
        atomic_write(stem.with_name(f"{stem.name}.json"), json.dumps(result).encode())
        checkpoint.unlink(missing_ok=True)
    return result


def _plain(row: Row) -> dict[str, Any]:
    """A row as JSON has it back: no infinities."""
    return {key: str(v) if v == math.inf else v for key, v in asdict(row).items()}


def _probed(model: VQVAE, held: Tensor, s: dict[str, Any], seed: int) -> dict[str, float]:
    generator = torch.Generator().manual_seed(seed)
    model.to(pick_device())
    return probe(model, held, generator, positions=s["probe_positions"], samples=s["probe_samples"])


@torch.no_grad()
def posterior_values(model: VQVAE, x: Tensor, batch_size: int = 256) -> dict[str, float]:
    """What the posterior of a GM-VQ says over a whole set; nothing for quantizers that have none.

    Args:
        model: it is left in evaluation mode.
        x: images, uint8 or float in [0, 1], (N, C, H, W).
        batch_size: images at a time.
    Returns:
        Nats: "conditional", the mean of H(c | x), and "marginal", H of the mean of q(c | x); "noisy_mse", the error of
        the training path, a draw with noise at the present temperature.
    """
    quantizer: Any = model.quantizer
    if not isinstance(quantizer, GaussianMixtureQuantizer):
        return {}
    device, step = quantizer.codebook.device, quantizer.step.clone()
    mean, conditional, error, rows = torch.zeros(quantizer.num_codes, dtype=torch.float64), 0.0, 0.0, 0
    for batch in x.split(batch_size):
        pixels = to_unit(batch).to(device)
        z = model.eval().encoder(pixels).permute(0, 2, 3, 1)
        log_q = quantizer.posterior(z).double().flatten(0, -2).cpu()
        mean += log_q.exp().sum(0)
        conditional -= (log_q.exp() * log_q).sum().item()
        quantizer.step.copy_(step)
        error += (model.train()(pixels).x_hat - pixels).double().square().sum().item()
        rows += len(log_q)
    quantizer.step.copy_(step)
    model.eval()
    marginal = torch.special.entr(mean / rows).sum().item()
    return {"conditional": conditional / rows, "marginal": marginal, "noisy_mse": error / x.numel()}


@torch.no_grad()
def reconstructions(model: VQVAE, x: Tensor) -> str:
    """What a model makes of a few images, as `picture` writes it."""
    device = next(model.parameters()).device
    return picture(model.eval()(to_unit(x).to(device)).x_hat.cpu())


def picture(x: Tensor) -> str:
    """Images side by side, (n, C, H, W) in [0, 1], as a JPEG in base64; `shown` reads it."""
    from PIL import Image

    strip = torch.cat(list((255 * x.clamp(0, 1)).round().byte()), -1).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(strip.squeeze(-1) if strip.shape[-1] == 1 else strip).save(file, "jpeg", quality=88)
    return base64.b64encode(file.getvalue()).decode()


def shown(text: str) -> Tensor:
    """The strip that `picture` wrote, float in [0, 1], (H, n W, C)."""
    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
    return torch.from_numpy(np.array(image)).float() / 255


def run_gmvq_study(
    settings: dict[str, Any], *, seed: int, checkpoint: Path | None, progress: bool = True
) -> Outcome:
    """Train and measure the rows that the settings name, on test images. Finished rows are kept."""
    train, held, test = split(settings)
    folder = checkpoint.parent / "rows" if checkpoint else None
    measured_on = held if settings["trial"] else test.x
    results = {
        name: train_row(name, settings, train, held, measured_on, seed=seed, folder=folder, progress=progress)
        for name in settings["rows"]
    }
    values: dict[str, float] = {}
    for name, result in results.items():
        found = result["values"]
        extra = [key for key in ("conditional", "marginal", "noisy_mse") if key in found]
        values |= {f"{name}_{key}": found[key] for key in (*METRICS, *extra)}
    values["tokens"] = next(iter(results.values()))["values"]["tokens"]
    history: dict[str, Any] = {}
    if any(result["pictures"] for result in results.values()):
        history["originals"] = picture(to_unit(measured_on[:SHOWN]))
    for name, result in results.items():
        history[name] = {key: result["history"][key] for key in ("step", "terms")}
        for key in ("probe", "pictures"):
            if result[key]:
                history[name][key] = result[key]
    others = f"{len(held):,} other training" if settings["trial"] else f"{len(test):,} test"
    return Outcome(
        values,
        history,
        sum(result["seconds"] for result in results.values()),
        device_words(pick_device()),
        f"{test.name}: {len(train):,} training and {others} images",
        test.note,
        _summary(values, list(results)),
    )


def _summary(values: dict[str, float], names: list[str]) -> str:
    lines = [f"{'':16}{'MSE':>9}{'perplexity':>12}{'active':>8}{'H(c|x)':>8}   ({values['tokens']:,} tokens)"]
    for name in names:
        mse, used, active = (values[f"{name}_{metric}"] for metric in METRICS)
        entropy = values.get(f"{name}_conditional")
        soft = "" if entropy is None else f"{entropy:8.2f}"
        lines.append(f"{name:16}{mse:9.5f}{used:12.1f}{active:8}{soft}")
    return "\n".join(lines)


_SMOKE: dict[str, Any] = dict(
    data="glyphs", n=144, n_held=16, n_test=32, hidden=16, dim=8, codes=32, steps=8, batch=16, lr=3e-3, warm_up=16,
    probes=[0, 8], probe_positions=2, probe_samples=64, trial=False,
)  # fmt: skip
_READ: dict[str, Any] = dict(
    data="cifar10", n=9_000, n_held=1_000, n_test=2_000, hidden=32, dim=16, codes=256, steps=500, batch=16, lr=2e-3,
    warm_up=256, probes=[50, 200], probe_positions=8, probe_samples=256, trial=False,
)  # fmt: skip
_FULL: dict[str, Any] = dict(
    data="cifar10", n=50_000, n_held=2_000, n_test=8_000, hidden=128, dim=64, codes=1024, steps=20_000, batch=128,
    lr=1e-3, warm_up=1_024, probes=[0, 1_000, 5_000, 10_000], probe_positions=64, probe_samples=4_096, trial=False,
)  # fmt: skip


def _profiles(rows: list[str], read: dict[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    sizes = {"smoke": _SMOKE, "read": {**_READ, **(read or {})}, "full": _FULL}
    return {name: {**size, "rows": rows} for name, size in sizes.items()}


# n training images, of which the last n_held are held out.
STUDY = _profiles(STUDY_ROWS)
FIGURE4 = _profiles(FIGURE4_ROWS)
SETTINGS = {name: {**sizes, "trial": True} for name, sizes in _profiles(SETTINGS_ROWS).items()}
FACES = _profiles(FACES_ROWS, dict(data="faces64", n=3_685, n_held=400, n_test=547, batch=8, steps=400))
