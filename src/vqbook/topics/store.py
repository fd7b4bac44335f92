"""Vectors on disk that only grow: one row a token, found by document.

`vectors.f16` holds the rows; `index` one record a document: its key, where its rows begin, how many they are. A
record is written after its rows have reached the disk, so whatever is interrupted resumes at the document where
it stopped.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path

import numpy as np

from vqbook.results import _locked

RECORD = np.dtype([("document", "S32"), ("row", "<i8"), ("tokens", "<i8")])


class Store:
    """Vectors of one model on disk, and where each document's rows begin.

    Args:
        folder: where models' vectors are kept. When it cannot be written, a folder of this process is used,
            with a warning.
        name: of the model and its settings, a folder below.

    Attributes:
        place: each kept document's first row, by its 32-character key.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(13, "Permission denied")
        except OSError as e:
            warnings.warn(
                f"the cache {folder} cannot be written ({e.strerror}): the vectors are kept for this process only; "
                "set VQBOOK_CACHE to a writable folder",
                stacklevel=4,
            )
            self._temporary = tempfile.TemporaryDirectory(prefix="vqbook-")
            self.folder = Path(self._temporary.name)
        self.place: dict[bytes, int] = {}
        self._refresh()

    def _refresh(self) -> None:
        index, data = self.folder / "index", self.folder / "vectors.f16"
        whole = index.stat().st_size // RECORD.itemsize if index.exists() else 0
        records = np.fromfile(index, RECORD, whole) if whole else np.empty(0, RECORD)
        self.dim = int((self.folder / "dim").read_text()) if whole else 0
        held = data.stat().st_size // (2 * self.dim) if whole else 0
        sound = records["row"] + records["tokens"] <= held  # a copy cut short loses its end only
        if not sound.all():
            records = records[: int(np.argmin(sound))]
        self.records, self.rows = len(records), int((records["row"] + records["tokens"]).max(initial=0))
        self.place = dict(zip(records["document"].tolist(), records["row"].tolist(), strict=True))

    def append(self, keys: list[bytes], vectors: list[np.ndarray]) -> None:
        """Add documents; those that another process has added meanwhile are left out."""
        with _locked(self.folder):
            self._refresh()
            new = [(k, v) for k, v in zip(keys, vectors, strict=True) if k not in self.place]
            if not new:
                return
            self.dim = new[0][1].shape[1]
            (self.folder / "dim").write_text(str(self.dim))
            sizes = np.array([len(v) for _, v in new])
            records = np.empty(len(new), RECORD)
            records["document"] = [k for k, _ in new]
            records["tokens"], records["row"] = sizes, self.rows + sizes.cumsum() - sizes
            _put(self.folder / "vectors.f16", self.rows * self.dim * 2, np.concatenate([v for _, v in new]))
            _put(self.folder / "index", self.records * RECORD.itemsize, records)
            self._refresh()

    def table(self) -> np.ndarray:
        """All rows kept, (R, d) float16, as a memory map."""
        if not self.rows:
            return np.zeros((0, self.dim), np.float16)
        shape = (self.rows, self.dim)
        return np.memmap(self.folder / "vectors.f16", np.float16, "r", shape=shape)


def _put(path: Path, offset: int, content: np.ndarray) -> None:
    """Write at `offset`, over whatever an interrupted writer left there, down to the disk."""
    with open(path, "r+b" if path.exists() else "w+b") as f:
        f.seek(offset)
        f.write(content.tobytes())
        f.truncate()
        f.flush()
        os.fsync(f.fileno())
