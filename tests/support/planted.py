"""A real stream with a planted bad stretch: scanned digits whose labels are shifted, while tumours are told well.

Handwritten digits (1,797 scans of 8 x 8) and the Wisconsin tumours, both part of scikit-learn. The same call makes
the same events with the same ids, so that a second stream can have all of them but the bad ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save

from tests.support.stream import TENSORS, Fields

if TYPE_CHECKING:
    from collections.abc import Iterator

EVENT_ROWS = 25
DIGITS = {"modality": "image", "input_shape": [8, 8], "holdout": 0.15, "tolerance": 0.03}
TUMOURS = {"modality": "table", "input_shape": [30], "holdout": 0.15, "tolerance": 0.06}
# Full batches only: a flush would be a decision in one log and not in the other.
SETTINGS = """
[engine]
strategy = "default"
buffer_rows = 300
replay_batch = 16
num_threads = 2
seed = 5
trunk = {width = 64, depth = 1}
[optimizer]
name = "adamw"
lr = 0.003
[stream]
batch_size = 16
linger_s = 3600
[checkpoint]
every_s = 0.5
keep = 60
[publish]
every_s = 0
on_switch = false
[evaluate]
every_s = 0
[holdout]
salt = "planted"
"""


@dataclass(frozen=True, slots=True)
class Planted:
    """The stream in its three stretches."""

    good: list[Fields]
    switch: Fields
    stretch: list[Fields]  # some of its events are bad
    later: list[Fields]


def is_bad(event: Fields) -> bool:
    """Whether its labels were shifted."""
    return str(event["id"]).startswith("bad")


def planted() -> Planted:
    """Two thirds of the rows; a switch; digits with shifted labels among tumours; the rest."""
    datasets: Any = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    scans, table = datasets.load_digits(), datasets.load_breast_cancer()
    x = (scans.images * 15).astype(np.uint8)
    y = scans.target.astype(np.int64)
    names = table.target.astype(np.int64)
    digits = list(_cut("digits", x[:1500], y[:1500]))
    spoilt = list(_cut("digits", x[:900], (y[:900] + 1) % 10, "bad"))  # copies of the good rows
    tumours = list(_cut("tumours", table.data.astype(np.float32), names))
    told = [
        _told("mtl.task.add.v1", "digits", DIGITS),
        _told("mtl.task.add.v1", "tumours", TUMOURS),
    ]
    good = [*told, *digits[:40], *tumours[:10]]
    stretch = [*tumours[10:12], *spoilt[:18], *tumours[12:14], *spoilt[18:], *tumours[14:16]]
    later = [*digits[40:], *tumours[16:]]
    return Planted(
        good, _told("mtl.task.switch.v1", "tumours", {"phase": "second"}), stretch, later
    )


def _cut(task: str, x: Any, y: Any, kind: str = "good") -> Iterator[Fields]:
    for start in range(0, len(y), EVENT_ROWS):
        rows = slice(start, start + EVENT_ROWS)
        data = save({"x": np.ascontiguousarray(x[rows]), "y": np.ascontiguousarray(y[rows])})
        yield _event("mtl.data.v1", task, f"{kind} {task} {start}", TENSORS, data, len(y[rows]))


def _told(kind: str, task: str, body: dict[str, Any]) -> Fields:
    return _event(kind, task, f"{kind} {task}", "application/json", json.dumps(body).encode())


def _event(kind: str, task: str, event_id: str, of: str, data: bytes, rows: int = 0) -> Fields:
    return {
        "specversion": "1.0", "id": event_id, "source": "scanner/1", "type": kind, "subject": task,
        "datacontenttype": of, "data": data, "mtlrows": str(rows),
    }  # fmt: skip
