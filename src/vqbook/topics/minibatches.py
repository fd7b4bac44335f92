"""The training loop of the neural topic models: mini-batches of bags, early stopping on the evidence bound."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vqbook.topics.bags import Bags
from vqbook.train import bar

Loss = Callable[..., dict[str, Tensor]]
WARM_UP = (
    50  # updates until the running averages of batch normalisation have forgotten their start (0.9^50 < 1 %)
)


def fit_minibatches(
    net: nn.Module,
    loss: Loss,
    train: Sequence[Bags],
    validation: Sequence[Bags] | None = None,
    *,
    epochs: int,
    batch_size: int = 200,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    patience: int = 10,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, list[float]]:
    """Train by AdamW on shuffled mini-batches; with validation documents, stop when their bound stops falling.

    Each epoch cuts a new order of the documents into batches of nearly equal size (never a single document); bags that
    belong together are cut alike. The validation loss draws the same noise in every epoch; it counts after 50 updates,
    when the running averages of batch normalisation can be trusted. The weights of the best epoch are put back. The
    caller's global random state is left as it was.

    Args:
        net: trained in place; left in evaluation mode.
        loss: `loss(*batches) -> {"name": term}`, each term a mean over documents in nats; their sum is minimised.
        train: bags of the same N documents (words, or codes and words); documents that are empty in the first are left
            out.
        validation: the same kinds of bags of other documents; None trains all epochs and keeps the last.
        epochs: passes over the documents, at most.
        batch_size: documents in a batch, about.
        lr: step size.
        betas: AdamW's.
        weight_decay: AdamW's.
        patience: epochs without a better validation loss before stopping.
        seed: of order, noise and dropout.
        progress: show a bar if a person is watching.
    Returns:
        Curves by name, one value an epoch: "total" and each term on the training batches, "validation" if given.
    Raises:
        ValueError: settings out of range, or validation documents without a word.
        FloatingPointError: the training loss is no longer finite. An infinite validation loss is worse than any other
            and no reason to stop: running means may not fit one unusual document.
    """
    if min(epochs, patience) < 1 or batch_size < 2 or not lr > 0:
        raise ValueError(
            "epochs and patience must be at least 1, batch_size at least 2 and lr positive, got "
            f"{epochs}, {patience}, {batch_size} and {lr}"
        )
    if validation and not len(validation[0].filled()):
        raise ValueError("the validation documents hold no word of the vocabulary: give others, or none")
    device = next(net.parameters()).device
    train, rows = [bags.to(device) for bags in train], train[0].filled()
    held = [bags.to(device) for bags in validation or ()]
    curves: dict[str, list[float]] = {}
    best, best_state, waited, updates = float("inf"), None, 0, 0
    order = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        optimiser = torch.optim.AdamW(
            net.parameters(), lr=lr, betas=betas, weight_decay=weight_decay, fused=True
        )
        with bar(range(epochs), progress) as shown:
            for _ in shown:
                net.train()
                sums: dict[str, float] = {}
                shuffled = rows[torch.randperm(len(rows), generator=order)]
                for part in shuffled.tensor_split(max(1, round(len(rows) / batch_size))):
                    terms = loss(*(bags.batch(part.to(device)) for bags in train))
                    total = torch.stack(list(terms.values())).sum()
                    optimiser.zero_grad()
                    total.backward()
                    optimiser.step()
                    updates += 1
                    for name, value in {"total": total, **terms}.items():
                        sums[name] = sums.get(name, 0.0) + float(value.detach()) * len(part) / len(rows)
                if held:
                    sums["validation"] = validation_loss(net, loss, held, batch_size, seed)
                for name, level in sums.items():
                    curves.setdefault(name, []).append(level)
                watched = sums.get("validation", sums["total"])
                if not np.isfinite(sums["total"]):
                    raise FloatingPointError(
                        f"the loss is {sums['total']} after epoch {len(curves['total'])}: {sums}"
                    )
                shown.set_postfix({"loss": f"{watched:.2f}"}, refresh=False)
                if not held or updates < WARM_UP:
                    continue
                if watched < best:
                    best, best_state, waited = watched, copy.deepcopy(net.state_dict()), 0
                else:
                    waited += 1
                    if waited >= patience:
                        break
    if best_state is not None:
        net.load_state_dict(best_state)
    net.eval()
    return curves


@torch.no_grad()
def validation_loss(
    net: nn.Module, loss: Loss, bags: Sequence[Bags], batch_size: int = 200, seed: int = 0
) -> float:
    """Minus the evidence bound, nats a document, in evaluation mode with the noise of one seed."""
    device = next(net.parameters()).device
    rows = bags[0].filled()
    total = 0.0
    net.eval()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        for part in rows.split(max(batch_size, 1)):
            terms = loss(*(b.batch(part.to(device)) for b in bags))
            total += float(torch.stack(list(terms.values())).sum()) * len(part)
    return total / max(len(rows), 1)
