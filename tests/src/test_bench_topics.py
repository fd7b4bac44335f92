from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vqbook import bench, bench_topics, results, table_bench
from vqbook.cli import main
from vqbook.topics import load_corpus


@pytest.mark.parametrize("by_token", [False, True])
def test_both_ways_make_the_same_bags(by_token: bool) -> None:
    corpus = load_corpus("bars", 30)
    ways = bench_topics.bag_candidates(corpus, by_token=by_token)
    ours, loop = ways[bench_topics.OURS](), ways[bench_topics.LOOP]()
    np.testing.assert_array_equal(ours.toarray(), loop)
    np.testing.assert_array_equal(loop.sum(1), table_bench.NEAR * corpus.lengths)


def test_synthetic_documents() -> None:
    corpus = bench_topics.synthetic(200, 1_000)
    counts = np.bincount(corpus.tokens, minlength=1_000)
    assert len(corpus) == 200
    assert counts[:10].sum() > counts[500:510].sum() * 5
    assert corpus.vectors.table.shape == (1_000, 50)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process inherits its parent's peak")
def test_a_peak_is_this_process_s_own() -> None:
    held = np.ones(2**28, dtype=np.uint8)
    assert bench.peak_of_this_process() > 0.25
    code = "from vqbook.bench import peak_of_this_process; print(peak_of_this_process())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before = bench.peak_of_this_process()
    assert float(done.stdout) < before - held.nbytes / 2**30 / 2


@pytest.mark.skipif(sys.platform == "win32", reason="only Unix tells a process its peak of memory")
def test_memory_is_far_from_documents_times_words() -> None:
    gib, _ = bench_topics.peak_memory(
        2_000, 100_000
    )  # that array would take 0.75 GiB, and the gradient another
    assert gib < 0.9


def test_command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "_folder", lambda: tmp_path)
    fit = bench_topics.fit_seconds
    monkeypatch.setattr(bench_topics, "fit_seconds", lambda corpus: fit(corpus, topics=5))
    monkeypatch.setattr(bench_topics, "peak_memory", lambda documents, words: (0.5, 1.0))
    monkeypatch.setattr(bench_topics, "load_corpus", lambda name: load_corpus("lee", 120))
    assert main(["bench", "topics", "--repeats", "1", "--ledger"]) == 0
    out = capsys.readouterr().out
    assert "| a Python loop over tokens | a vector for each token |" in out
    assert "100,000 documents over 500,000 words, one epoch: 0.50 GiB" in out
    ledger = results.Ledger()
    assert ledger.values("bench-topics", f"a vector for each word / {bench_topics.OURS} / ratio") == [1.0]
    assert ledger.values("bench-topics", "fit / s")[0] > 0
