"""A topic model as a folder: model.json, and one safetensors file that model.json names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor

from vqbook.data.sets import DataError
from vqbook.results import atomic_write

NEEDED = ("class", "params", "words", "history", "weights")


def write_model(folder: str | Path, head: dict[str, Any], arrays: dict[str, Tensor]) -> None:
    """Write head and arrays. model.json is replaced last and in one step: a crash leaves the old model or the new."""
    folder = Path(folder)
    content = tensor_bytes({key: value.detach().cpu().contiguous() for key, value in arrays.items()})
    weights = f"weights-{_digest(content)}.safetensors"
    atomic_write(folder / weights, content)
    atomic_write(folder / "model.json", json.dumps({**head, "weights": weights}, ensure_ascii=False).encode())
    for old in folder.glob("weights-*.safetensors"):
        if old.name != weights:
            old.unlink()


def read_head(folder: str | Path) -> dict[str, Any]:
    """model.json, checked for what every model has.

    Raises:
        DataError: no model there, or a damaged one.
    """
    path = Path(folder) / "model.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no topic model: there is no model.json in it")
    try:
        head = json.loads(path.read_text(encoding="utf-8"))
        missing = [key for key in NEEDED if key not in head]
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is damaged ({error}): save the model again or restore a copy") from None
    if missing:
        raise DataError(f"{path} is not a topic model's file: it lacks {', '.join(missing)}")
    return head


def read_arrays(folder: str | Path, head: dict[str, Any]) -> dict[str, Tensor]:
    """The arrays of the file that the head names.

    Raises:
        DataError: the file is not there or damaged.
    """
    path = Path(folder) / Path(head["weights"]).name
    if not path.is_file():
        raise DataError(f"{folder} lacks {path.name}, which its model.json names: save the model again")
    content = path.read_bytes()
    try:
        if _digest(content) not in path.name:
            raise SafetensorError("its checksum does not match")
        return read_tensors(content)
    except SafetensorError as error:
        raise DataError(f"{path} is damaged ({error}): save the model again or restore a copy") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
