"""Makers for the core's tests: entries of the log, rows, cuts, and a loop over a log in memory."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from daemon.checkpointer import Checkpointer, Cut, Failed, Written
from daemon.types import Entry
from mtl_engine.types import Rows, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.checkpoint_store import Store

Fields = dict[str, str]


def key_of(number: int, says: int = 0) -> bytes:
    """A 32-byte event key: the name is the number's, the digest that of what it says."""
    name = hashlib.blake2b(f"name {number}".encode(), digest_size=16).digest()
    return name + hashlib.blake2b(f"says {says}".encode(), digest_size=16).digest()


def fields(kind: str, subject: str | None = None, **more: Any) -> Fields:
    """The flat fields of one event; `data` may be an object, `id` tells events apart."""
    data = more.pop("data", None)
    made: Fields = {
        "specversion": "1.0",
        "id": str(more.pop("id", "1")),
        "source": str(more.pop("source", "test/1")),
        "type": kind,
        **({} if subject is None else {"subject": subject}),
        **({} if data is None else {"datacontenttype": "application/json", "data": _text(data)}),
    }
    return made | {name: str(value) for name, value in more.items()}


def _text(data: Any) -> str:
    return data if isinstance(data, str) else json.dumps(data)


def entry(made: Fields, entry_id: str = "1-0") -> Entry:
    """These fields as the log returns them."""
    return Entry(entry_id, {name.encode(): value.encode() for name, value in made.items()})


def entries(made: Sequence[Fields], start: int = 1) -> list[Entry]:
    """A log of these events with the ids 1-0, 2-0, ..."""
    return [entry(one, f"{start + place}-0") for place, one in enumerate(made)]


def labelled(first: int, count: int, task: str = "a", table: str = "t") -> Rows:
    """Rows whose only feature and label are their running numbers, so that any order shows."""
    numbers = np.arange(first, first + count)
    x = numbers.astype(np.float32)[:, None]
    return Rows(table, x, None, {task: Target(numbers.astype(np.int32))})


def numbers_of(batch: Sequence[Rows]) -> list[int]:
    """The running numbers of a batch made of `labelled` rows."""
    return [int(number) for rows in batch for number in rows.x[:, 0]]


# -- checkpoints -------------------------------------------------------------------------------------------


def cut(number: int, **more: Any) -> Cut:
    """A small cut that tells its number: one tensor, an empty one, and a segment that stays as it is."""
    told: dict[str, Any] = {
        "tensors": {"x": torch.full((4,), float(number)), "none": np.zeros((0, 4), np.uint8)},
        "segments": {"ring/0": (1, {"keys": np.full(3, 7, np.uint8)})},
        "meta": {"number": number},
        "header": {"step": 10 * number, "epoch": 1, "watermark": f"{number}-0"},
        "weights": frozenset({"x"}),
    }
    return Cut(**(told | more))


def write(checkpointer: Checkpointer, one: Cut) -> Written | Failed:
    """Write a cut and wait for what becomes of it."""
    checkpointer.stage(one)
    outcome = checkpointer.wait()
    assert outcome is not None
    return outcome


def line_of_cuts(root: Path, count: int, keep: int = 5) -> Store:
    """A directory of `count` cuts, each the child of the one before."""
    checkpointer = Checkpointer(root, keep)
    assert checkpointer.recover() is None
    for number in range(1, count + 1):
        assert isinstance(write(checkpointer, cut(number)), Written)
    return checkpointer.store


def flip_bit(path: Path, place: int) -> None:
    """Change one bit of a file, in a file of its own: hard links keep what they had."""
    content = bytearray(path.read_bytes())
    content[place // 8 % len(content)] ^= 1 << place % 8
    path.unlink()
    path.write_bytes(content)
