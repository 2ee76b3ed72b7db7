"""A deterministic stream of raw events as producers send them: several tasks, growing heads, switches, bad ones.

Built from a seed alone and sent with plain XADD, so a test knows every field of every entry.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save

from daemon.sources.link import Keys, Link

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Fields = dict[str, str | bytes]

SOURCE = "feed/1"
TENSORS = "application/vnd.safetensors"

# Small enough that a process spends its time starting; every part of the state is in use.
SETTINGS = """
[engine]
strategy = "default"
buffer_rows = 60
replay_batch = 8
num_threads = 2
seed = 7
trunk = {width = 16, depth = 1}
[optimizer]
name = "sgd"
lr = 0.05
momentum = 0.9
[stream]
batch_size = 8
linger_s = 0.15
teacher_every = 15
[checkpoint]
every_s = 0.3
keep = 3
keep_hourly = 0
[publish]
every_s = 0
keep = 1000
"""
TASKS = """
[[task]]
name = "digits"
modality = "image"
holdout = 0.15
[[task]]
name = "words"
modality = "text"
max_bytes = 24
encoder = {name = "text", buckets = 128, dim = 8}
holdout = 0.15
[[task]]
name = "flow"
modality = "table"
kind = "regression"
targets = 2
[[task]]
name = "tags"
modality = "table"
kind = "multilabel"
targets = 3
"""


@dataclass(slots=True)
class Feed:
    """Makes events one after the other; the same calls with the same seed give the same bytes."""

    seed: int = 0
    sources: tuple[str, ...] = (SOURCE,)  # who sends: they take turns
    sent: list[Fields] = field(default_factory=list[Fields])
    draw: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.draw = np.random.Generator(np.random.PCG64(self.seed))

    def chunk(self, number: int) -> list[Fields]:
        """One stretch: rows of every task, a bad event, a duplicate, a switch, and a tail too short for a batch."""
        classes = 2 + number // 2
        made = [
            self.digits(5, classes),
            self.words(3, classes),
            self.digits(4, classes, unlabelled=number % 4 == 1),
            self.flow(4, with_tags=True),
            self.bad(number),
            self.late(4),
        ]
        made += [
            self.repeat(),
            self.digits(6, classes),
            self.flow(3, with_tags=False),
            *self.steering(number),
            self.switch(("digits", "words", "flow")[number % 3], f"phase-{number}"),
            self.words(3, classes),
        ]
        return made

    def last(self) -> list[Fields]:
        """The end of a stream: a switch, which leaves no row pending."""
        return [self.digits(5, 3), self.switch("digits", "the end")]

    # -- rows ------------------------------------------------------------------------------------------------

    def digits(self, num_rows: int, classes: int, *, unlabelled: bool = False) -> Fields:
        """Images 6 x 6 whose brightest column says the class."""
        y = self.draw.integers(0, classes, num_rows)
        x = self.draw.integers(0, 90, (num_rows, 6, 6)).astype(np.uint8)
        x[np.arange(num_rows), :, y % 6] += 120
        columns = {"x": x} if unlabelled else {"x": x, "y": y}
        return self.event("mtl.data.v1", "digits", TENSORS, save(columns), num_rows)

    def words(self, num_rows: int, classes: int) -> Fields:
        """Texts that begin with their label."""
        names = [f"wish-{int(number)}" for number in self.draw.integers(0, classes, num_rows)]
        texts = [f"{name} in {int(self.draw.integers(100))}" for name in names]
        data = json.dumps({"x": texts, "y": names}).encode()
        return self.event("mtl.data.v1", "words", "application/json", data, num_rows)

    def flow(self, num_rows: int, *, with_tags: bool) -> Fields:
        """Rows of a table with two numbers to predict; with `tags` the same rows serve a second task."""
        x = self.draw.standard_normal((num_rows, 5)).astype(np.float32)
        y = x[:, :2] * 3 + 1
        columns: dict[str, np.ndarray] = {"x": x, "y.flow": y}
        if with_tags:
            columns["y.tags"] = (x[:, 2:] > 0).astype(np.uint8)
            columns["mask.tags"] = self.draw.random((num_rows, 3)) < 0.8
        return self.event("mtl.data.v1", None, TENSORS, save(columns), num_rows)

    def late(self, num_rows: int) -> Fields:
        """Rows of a task that nobody declared at the start."""
        x = self.draw.standard_normal((num_rows, 4)).astype(np.float32)
        data = save({"x": x, "y": (x[:, 0] > 0).astype(np.int64)})
        return self.event("mtl.data.v1", "late", TENSORS, data, num_rows)

    def repeat(self) -> Fields:
        """An event that was sent before, with all its fields."""
        known = [old for old in self.sent if old["type"] == "mtl.data.v1" and "id" in old]
        again = known[int(self.draw.integers(len(known)))]
        self.sent.append(again)
        return again

    def copies(self) -> list[Fields]:
        """Contents that were sent before: with other labels, without any, and one that comes over and over."""
        y = self.draw.integers(0, 2, 4)
        again = self._drawn(4, seed=1)
        blank = np.zeros((3, 6, 6), np.uint8)
        made = ({"x": again, "y": y}, {"x": again}, {"x": blank, "y": y[:3]})
        return [
            self.event("mtl.data.v1", "digits", TENSORS, save(columns), len(columns["x"]))
            for columns in made
        ]

    def _drawn(self, num_rows: int, seed: int) -> np.ndarray:
        """Images of which every call with the same seed has some."""
        pool = np.random.Generator(np.random.PCG64(seed)).integers(0, 200, (40, 6, 6))
        return pool[self.draw.integers(0, len(pool), num_rows)].astype(np.uint8)

    # -- what steers -------------------------------------------------------------------------------------------

    def steering(self, number: int) -> list[Fields]:
        """Task events at their places in the stream."""
        if number == 2:
            return [self.told("mtl.task.add.v1", "late", {"modality": "embedding", "holdout": 0.2})]
        if number == 4:
            return [self.told("mtl.task.update.v1", "words", {"share": 2.0})]
        if number == 9:
            return [self.told("mtl.task.retire.v1", "tags", {})]
        return []

    def switch(self, task: str, phase: str) -> Fields:
        """The end of a phase."""
        return self.told("mtl.task.switch.v1", task, {"phase": phase})

    def told(self, kind: str, task: str, body: dict[str, Any]) -> Fields:
        """A task event with a JSON body."""
        return self.event(kind, task, "application/json", json.dumps(body).encode(), None)

    def bad(self, number: int) -> Fields:
        """One of a few bad events; tests/support/malformed.py has them all."""
        made = self.digits(3, 3)
        kind = number % 6
        if kind == 0:
            made["data"] = bytes(made["data"])[:-5]
        elif kind == 1:
            made["subject"] = "nobody"
        elif kind == 2:
            x = np.full((3, 5), np.inf, np.float32)
            made |= {"subject": "flow", "data": save({"x": x, "y": np.zeros((3, 2), np.float32)})}
        elif kind == 3:
            made["specversion"] = "7.0"
        elif kind == 4:
            del made["id"]
        else:
            known = next(old for old in self.sent if old.get("subject") == "digits")
            made |= {"id": known["id"], "source": known["source"]}
        return made

    def event(
        self, kind: str, subject: str | None, content_type: str, data: bytes, num_rows: int | None
    ) -> Fields:
        """The fields of one event, with the next id."""
        made: Fields = {
            "specversion": "1.0",
            "id": f"e{len(self.sent)}",
            "source": self.sources[len(self.sent) % len(self.sources)],
            "type": kind,
            "datacontenttype": content_type,
            "data": data,
        }
        if subject is not None:
            made["subject"] = subject
        if num_rows is not None:
            made["mtlrows"] = str(num_rows)
        self.sent.append(made)
        return made


def rows_of(events: Iterable[Mapping[str, str | bytes]]) -> int:
    """How many rows the producers say they have sent."""
    return sum(int(event.get("mtlrows", 0)) for event in events)


def send(link: Link, events: Iterable[Mapping[str, str | bytes]], namespace: str = "test") -> str:
    """XADD each of them; returns the id of the last one."""
    last = b"0-0"
    for event in events:
        flat = [part for pair in event.items() for part in pair]
        last = link.call("XADD", Keys.of(namespace).events, "*", *flat)
    return last.decode()
