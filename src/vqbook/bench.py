"""How fast, against what: alternatives run in turn within one process, so that a busy machine slows all alike."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vqbook.bench_step import step_candidates
from vqbook.experiments import device_words
from vqbook.quantizers import EMAVectorQuantizer, VectorQuantizer, nearest_code, top_k_codes

Size = tuple[int, int, int]  # N vectors, K codes, D dimensions
SEARCH: dict[str, tuple[Size, ...]] = {
    "cpu": ((65_536, 512, 64), (65_536, 1_024, 64), (16_384, 8_192, 64), (1_000_000, 1_024, 32)),
    "cuda": ((65_536, 1_024, 64), (1_000_000, 1_024, 32), (1_000_000, 8_192, 64), (1_000_000, 16_384, 64)),
}
LAYER: dict[str, tuple[Size, ...]] = {
    "cpu": ((65_536, 512, 64), (65_536, 1_024, 64), (16_384, 8_192, 64)),
    "cuda": ((65_536, 1_024, 64), (262_144, 1_024, 64), (65_536, 8_192, 64)),
}
STEP: dict[str, tuple[Size, ...]] = {"cpu": ((4_096, 1_024, 32),), "cuda": ((8_192, 1_024, 64),)}
OURS, OURS_VECTORS = "vqbook: codes", "vqbook: codes and vectors"
THEIRS = "vector-quantize-pytorch"
_LARGEST = {
    "cpu": 1 << 30,
    "cuda": 1 << 34,
}  # elements of N x K beyond which a candidate that holds it is left out


class Timing(NamedTuple):
    """What one candidate took.

    Attributes:
        milliseconds: median over the repeats.
        ratio: median over the repeats of its time against the first candidate's in the same round.
        extra_mib: peak memory beyond its inputs, in MiB; None where it was not measured.
    """

    milliseconds: float
    ratio: float
    extra_mib: float | None = None


def paired(candidates: dict[str, Callable[[], object]], *, repeats: int = 5) -> dict[str, Timing]:
    """Time candidates in turn, ``repeats`` rounds after one unmeasured round.

    Raises:
        ValueError: no candidate, or fewer than one repeat.
    """
    if not candidates or repeats < 1:
        raise ValueError(
            f"expected candidates and repeats >= 1, got {len(candidates)} candidates, repeats={repeats}"
        )
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for turn in range(repeats + 1):
        for name, candidate in candidates.items():
            _wait()
            start = time.perf_counter()
            candidate()
            _wait()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    first = next(iter(seconds.values()))
    return {
        name: Timing(
            1e3 * statistics.median(times),
            statistics.median(t / f for t, f in zip(times, first, strict=True)),
        )
        for name, times in seconds.items()
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def search_candidates(size: Size, device: torch.device) -> dict[str, Callable[[], object]]:
    """Ways to find the nearest codes, and the bare matrix product that no search by scores can beat.

    Candidates whose package is not installed are left out, and so are those that would hold an N x K matrix
    too large for this machine. The matrix product goes in blocks of 2,048 vectors on a CPU: the results stay
    in cache and are thrown away.
    """
    n, k, d = size
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(n, d, generator=generator).to(device)
    codebook = torch.randn(k, d, generator=generator).to(device)
    block = 2_048 if device.type == "cpu" else max(1, (1 << 30) // k)
    scores = torch.empty(min(block, n), k, device=device)

    def product() -> None:
        for part in z.split(block):
            torch.mm(part, codebook.T, out=scores[: len(part)])

    found: dict[str, Callable[[], object]] = {
        OURS: lambda: nearest_code(z, codebook),
        OURS_VECTORS: lambda: codebook[nearest_code(z, codebook)],
        "vqbook: the 5 nearest": lambda: top_k_codes(z, codebook, 5),
        "matrix product alone": product,
    }
    if device.type == "cpu" and _installed("faiss"):
        import faiss  # type: ignore[import-untyped,unused-ignore]

        faiss.omp_set_num_threads(torch.get_num_threads())
        index = faiss.IndexFlatL2(d)
        index.add(codebook.numpy())
        found["faiss IndexFlatL2"] = lambda: index.search(z.numpy(), 1)
    if n * k * 4 <= _LARGEST[device.type]:
        found["torch.cdist(...).argmin"] = lambda: torch.cdist(z, codebook).argmin(-1)
        if _installed("vector_quantize_pytorch"):
            layer = _theirs(k, d).to(device).eval()
            layer.get_submodule("_codebook").get_buffer("embed").copy_(codebook[None])
            found[THEIRS] = torch.no_grad()(lambda: layer(z[None]))
    return found


def layer_candidates(size: Size, device: torch.device) -> dict[str, Callable[[], object]]:
    """One training step of a quantiser layer: forward, backward and, for EMA, the update of the codebook."""
    n, k, d = size
    z = torch.randn(1, n, d, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()

    def ours(layer: torch.nn.Module) -> Callable[[], object]:
        def step() -> None:
            out = layer(z)
            loss = out.z_q.square().mean() + 0.25 * out.terms["commitment"] + out.terms.get("codebook", 0)
            loss.backward()

        return step

    def theirs(layer: torch.nn.Module) -> Callable[[], object]:
        def step() -> None:
            z_q, _, loss = layer(z)
            (z_q.square().mean() + loss.sum()).backward()

        return step

    found = {"vqbook: EMA": ours(EMAVectorQuantizer(k, d, decay=0.99, eps=1e-5).to(device))}
    found["vqbook: gradient"] = ours(VectorQuantizer(k, d).to(device))
    if n * k * 4 <= _LARGEST[device.type] and _installed("vector_quantize_pytorch"):
        found[f"{THEIRS}: EMA"] = theirs(_theirs(k, d).to(device))
        learnt = _theirs(k, d, learnable_codebook=True, ema_update=False)
        found[f"{THEIRS}: gradient"] = theirs(learnt.to(device))
    return found


def _theirs(k: int, d: int, **settings: Any) -> torch.nn.Module:
    from vector_quantize_pytorch import VectorQuantize  # type: ignore[import-untyped,unused-ignore]

    return VectorQuantize(
        dim=d,
        codebook_size=k,
        decay=0.99,
        eps=1e-5,
        commitment_weight=0.25,
        rotation_trick=False,
        **settings,
    )


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


KINDS: dict[
    str,
    tuple[dict[str, tuple[Size, ...]], Callable[[Size, torch.device], dict[str, Callable[[], object]]], str],
] = {  # kind: (sizes by device, candidates, what they are fed with)
    "search": (SEARCH, search_candidates, "normally distributed vectors and codes"),
    "layer": (LAYER, layer_candidates, "normally distributed vectors and codes"),
    "gmvq": (STEP, step_candidates, "images of uniform noise; a whole training step"),
}


def extra_memory(name: str, size: Size, device: torch.device, kind: str = "search") -> float | None:
    """Peak memory of one run beyond its inputs, in MiB, its results included.

    On a CPU a fresh process is asked (Linux alone can tell); on a GPU the allocator.
    """
    if device.type == "cuda":
        candidate = KINDS[kind][1](size, device)[name]
        candidate()
        _wait()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        candidate()
        _wait()
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    if sys.platform != "linux":
        return None
    code = f"from vqbook import bench; print(bench._peak_here({name!r}, {size!r}, {kind!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def _peak_here(name: str, size: Size, kind: str) -> float:
    cpu, candidates = torch.device("cpu"), KINDS[kind][1]
    candidates((256, size[1], size[2]), cpu)[name]()  # loads libraries, starts threads
    candidate = candidates(size, cpu)[name]
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = _status("VmRSS")
    candidate()
    return (_status("VmHWM") - before) / 1024


def peak_of_this_process() -> float:
    """The most memory that this process has held at once, in GiB.

    Linux is asked for VmHWM: what `getrusage` calls a process's peak starts, there, at the peak of the process that
    started it.
    """
    if sys.platform == "linux":
        return _status("VmHWM") / 2**20
    import resource

    unit = 2**30 if sys.platform == "darwin" else 2**20  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key))


class Bench(NamedTuple):
    """All timings of one run, by size and candidate, with what they ran on."""

    kind: str
    device: torch.device
    repeats: int
    seconds: float
    timings: dict[Size, dict[str, Timing]]

    def values(self) -> dict[str, float]:
        """The numbers by name, for the ledger."""
        found = {}
        for size, rows in self.timings.items():
            for name, timing in rows.items():
                key = f"{'x'.join(map(str, size))} / {name}"
                found[f"{key} / ms"] = timing.milliseconds
                found[f"{key} / ratio"] = timing.ratio
                if timing.extra_mib is not None:
                    found[f"{key} / MiB"] = timing.extra_mib
        return found


def run(kind: str, *, sizes: Iterable[Size] | None = None, repeats: int = 5) -> Bench:
    """Time the search, the layer or a training step of GM-VQ on the device that training would use.

    Args:
        kind: "search", "layer" or "gmvq".
        sizes: (N, K, D) each; by default those that the book shows.
        repeats: measured rounds.
    Raises:
        ValueError: an unknown kind.
    """
    from vqbook.train import pick_device

    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    device = pick_device()
    device = device if device.type in SEARCH else torch.device("cpu")
    default, candidates, _ = KINDS[kind]
    began = time.perf_counter()
    timings: dict[Size, dict[str, Timing]] = {}
    for size in sizes or default[device.type]:
        rows = paired(candidates(size, device), repeats=repeats)
        if kind != "layer":
            rows = {
                name: row._replace(extra_mib=extra_memory(name, size, device, kind))
                for name, row in rows.items()
            }
        timings[size] = rows
    return Bench(kind, device, repeats, time.perf_counter() - began, timings)


def table(bench: Bench) -> str:
    """A Markdown table: medians, and ratios to the first candidate of each size."""
    head = f"Medians of {bench.repeats} paired repeats; {device_words(bench.device)}."
    lines = [head, "", "| N, K, D | what | ms | against the first | extra MiB |", "|---|---|---|---|---|"]
    for size, rows in bench.timings.items():
        for name, row in rows.items():
            mib = "" if row.extra_mib is None else f"{row.extra_mib:,.0f}"
            lines.append(
                f"| {', '.join(f'{x:,}' for x in size)} | {name} | {row.milliseconds:.1f} | {row.ratio:.2f} | {mib} |"
            )
    return "\n".join(lines)


def record(bench: Bench) -> None:
    """Write one run into the ledger, as bench-search-cpu and the like; an earlier one is replaced."""
    from vqbook.results import Ledger

    packages = ("vector-quantize-pytorch", "faiss-cpu")
    there = ", ".join(
        f"{name} {version(name)}" for name in packages if _installed(name.split("-cpu")[0].replace("-", "_"))
    )
    Ledger().record(
        f"bench-{bench.kind}-{bench.device.type}",
        values=bench.values(),
        command=f"vqbook bench {bench.kind} --repeats {bench.repeats} --ledger",
        data=KINDS[bench.kind][2],
        note=f"Medians of paired repeats; beside us: {there or 'PyTorch alone'}.",
        profile="read",
        seed=0,
        device=device_words(bench.device),
        seconds=bench.seconds,
    )
