"""The ledger of equations: a numerical proof for every labelled equation of the book.

``chNN.py`` holds the proofs of chapter NN. Each is a function without arguments that evaluates both sides of an
equation as it is written in the chapter and returns the largest difference seen::

    @proof("eq-steiner", kind="random models", tolerance=1e-12)
    def steiner() -> float:
        \"\"\"Both sides, for 100 random cells and pins; relative error.\"\"\"

A proof runs in float64 and from a fixed seed. ``python -m press prove`` runs them all and writes ``proofs.json``; the
press prints the appendix "Every equation, checked" from it, and ``tests/book/test_equations.py`` runs them again.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

KINDS = {
    "enumerated": "every case is tried, or every outcome summed",
    "random models": "both sides are evaluated on models drawn at random",
    "quadrature": "integrals are computed numerically on a grid",
    "sampled": "an expectation is estimated by sampling, and compared within its statistical error",
    "symbolic": "both sides are compared as formulas",
}
REGISTRY: dict[str, Proof] = {}


@dataclass(frozen=True)
class Proof:
    """A proof of one or more labelled equations; ``run()`` returns the largest error seen."""

    labels: tuple[str, ...]
    kind: str
    tolerance: float
    statement: str
    function: str
    module: str
    run: Callable[[], float]


def proof(*labels: str, kind: str, tolerance: float) -> Callable[[Callable[[], float]], Callable[[], float]]:
    """Register a function as the proof of these equations.

    Args:
        labels: of the equations in ``book/chapters``, such as ``"eq-elbo"``.
        kind: one of ``KINDS``.
        tolerance: the largest error that counts as agreement.
    Raises:
        ValueError: an unknown kind, no label, a label that has a proof already, or no docstring.
    """
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r} of {labels} is none of {', '.join(KINDS)}")
    if not labels:
        raise ValueError("a proof names at least one equation")

    def register(function: Callable[[], float]) -> Callable[[], float]:
        @functools.wraps(function)
        def run() -> float:
            before = torch.get_default_dtype()
            np.random.seed(0)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                torch.set_default_dtype(torch.float64)
                try:
                    return float(function())
                finally:
                    torch.set_default_dtype(before)

        statement = " ".join((inspect.getdoc(function) or "").split("\n\n")[0].split())
        if not statement:
            raise ValueError(f"{function.__name__} has no docstring: say in one sentence what it checks")
        for label in labels:
            if label in REGISTRY:
                raise ValueError(
                    f"{label!r} is proven twice: {REGISTRY[label].function}, {function.__name__}"
                )
            REGISTRY[label] = Proof(
                labels, kind, tolerance, statement, function.__name__, function.__module__, run
            )
        return run

    return register


def all_proofs() -> dict[str, Proof]:
    """Every proof of the book by the label of its equation."""
    for path in sorted(Path(__file__).parent.glob("ch[0-9][0-9].py")):
        importlib.import_module(f"{__name__}.{path.stem}")
    return dict(REGISTRY)


def largest(*differences: torch.Tensor | float) -> float:
    """The largest absolute entry of all these differences; NaN counts as infinite."""
    found = torch.stack(
        [torch.as_tensor(d, dtype=torch.float64).detach().abs().max() for d in differences]
    ).max()
    return float("inf") if found.isnan() else float(found)
