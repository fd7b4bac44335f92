"""How the numbers of `bench_topics` are told; without PyTorch, so that the press need not wait for it."""

from __future__ import annotations

from collections.abc import Mapping

CODES, NEAR = 300, 5  # of the bags that are timed


def table(values: Mapping[str, float]) -> str:
    """The numbers in Markdown and words."""
    lines = [f"Bags of {CODES} codes, {NEAR} for each token:", ""]
    lines += ["| bags by | table of vectors | ms | × first |", "|---|---|---:|---:|"]
    for name, milliseconds in values.items():
        if name.endswith(" / ms"):
            kind, way, _ = name.split(" / ")
            ratio = values[f"{kind} / {way} / ratio"]
            lines.append(f"| {way} | {kind} | {milliseconds:,.1f} | {ratio:.1f} |")
    fit, own, before = (f"{values[key]:.0f} s" for key in ("fit / s", "conceptual words / s", "word2vec / s"))
    documents, words = (f"{values[f'large / {what}']:,.0f}" for what in ("documents", "words"))
    lines += [
        "",
        f"One fit with 50 topics: {fit} ({values['fit / processor s']:.0f} s of processor time), of which the "
        f"conceptual words {own}; stopped after {values['epochs']:.0f} epochs. word2vec before it: {before}.",
        "",
        f"{documents} documents over {words} words, one epoch: {values['large / GiB']:.2f} GiB at most in "
        f"{values['large / s']:.0f} s.",
    ]
    return "\n".join(lines)
