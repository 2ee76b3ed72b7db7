"""Makers for the core's tests: entries of the log, rows, cuts, and a loop over a log in memory."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from queue import SimpleQueue
from time import sleep
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from daemon import app
from daemon import cut as cutting
from daemon.checkpoint_store import Recovered
from daemon.checkpointer import Checkpointer, Cut, Failed, Written
from daemon.config import Config, HoldoutSettings, Publish, Stream
from daemon.machine import LogMachine
from daemon.reader import Position
from daemon.sources.memory import MemoryLog, MemorySource
from daemon.types import Entry, Limits, Request
from mtl_engine.engine import Engine
from mtl_engine.types import Rows, Target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from daemon.checkpoint_store import Store
    from daemon.loop import Loop
    from daemon.types import Json

Fields = dict[str, str]
SALT = "of the tests"


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


# -- the machine -------------------------------------------------------------------------------------------


SMALL: Json = {
    "trunk": {"width": 8, "depth": 1},
    "buffer_rows": 24,
    "replay_batch": 4,
    "optimizer": {"name": "sgd", "lr": 0.2},  # learns in some tens of steps of four rows
    "device": "cpu",
}


def engine(**more: Any) -> Engine:
    """A tiny engine: eight units, two dozen remembered rows."""
    return Engine.from_config({**SMALL, "salt": SALT, **more})


def machine(stream: Stream | None = None, **more: Any) -> LogMachine:
    """A machine around a tiny engine; batches of four rows."""
    return LogMachine(engine(**more), stream or Stream(batch_size=4), Limits())


def add_task(name: str = "a", **spec: Any) -> Fields:
    """A task of three numbers a row, nothing held out unless asked for."""
    told = {"modality": "table", "input_shape": [3], "holdout": 0.0, **spec}
    return fields("mtl.task.add.v1", name, id=f"add {name}", data=told)


def add_text(name: str = "t", **spec: Any) -> Fields:
    """A task of short texts."""
    told = {"modality": "text", "max_bytes": 16, "holdout": 0.0, **spec}
    return fields("mtl.task.add.v1", name, id=f"add {name}", data=told)


def rows(number: int, count: int = 3, task: str = "a", **more: Any) -> Fields:
    """A data event whose rows and labels are a function of its number."""
    places = range(number, number + count)
    x = [[(place * 7 % 5) - 2.0, place % 3 / 2, 1.0] for place in places]
    data = {"x": x, "y": [place % 3 for place in places]}
    told = {"id": f"{task} {number}", "data": data, "mtlrows": count, **more}
    return fields("mtl.data.v1", task, **told)


def texts(number: int, count: int = 2, task: str = "t") -> Fields:
    """The same for a task of texts."""
    places = range(number, number + count)
    data = {
        "x": [f"text {place % 4}" for place in places],
        "y": [["even", "odd"][p % 2] for p in places],
    }
    return fields("mtl.data.v1", task, id=f"{task} {number}", data=data, mtlrows=count)


def feed(one: LogMachine, log: Sequence[Entry]) -> None:
    """Enter entries and train whatever is full after each, as the loop does."""
    for found in log:
        one.enter(found)
        while one.train_one():
            pass


def state_of(one: LogMachine) -> Cut:
    """All that the machine is; compare with `differences`."""
    return cutting.take(one, Position(), cutting.Process(), {})


def recovered(one: Cut) -> Recovered:
    """A cut as it would come back from the disk: copies, and JSON through its text."""
    told = json.loads(json.dumps({"meta": one.meta, "header": one.header}))
    return Recovered(
        seq=1,
        header=told["header"],
        tensors={name: _copied(value) for name, value in one.tensors.items()},
        segments={
            name: {column: _copied(value) for column, value in columns.items()}
            for name, (_, columns) in one.segments.items()
        },
        meta=told["meta"],
    )


def _copied(value: Any) -> np.ndarray:
    return np.array(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)


def differences(one: Recovered, other: Recovered) -> list[str]:
    """Names of everything in which two states differ by a single bit."""
    found = [key for key in ("header", "meta") if getattr(one, key) != getattr(other, key)]
    named = [one.tensors, other.tensors]
    for name in [*one.segments, *(name for name in other.segments if name not in one.segments)]:
        named += [one.segments.get(name, {}), other.segments.get(name, {})]
    for left, right in zip(named[::2], named[1::2], strict=True):
        found += sorted(left.keys() ^ right.keys())
        found += [
            name for name in left.keys() & right.keys() if not _equal(left[name], right[name])
        ]
    return found


def _equal(left: np.ndarray, right: np.ndarray) -> bool:
    same_form = (left.shape, left.dtype) == (right.shape, right.dtype)
    return same_form and left.tobytes() == right.tobytes()


# -- the loop ----------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process, as far as a test within one can have it."""


@dataclass
class RecordingLog(MemoryLog):
    """A log that also remembers what was trimmed or flushed, for whoever wants to read all of it."""

    ever: list[Entry] = field(default_factory=list[Entry])

    def add(self, fields: Mapping[str, str | bytes], entry_id: str | None = None) -> str:
        made = super().add(fields, entry_id)
        self.ever.append(self.rows[-1][1])
        return made


Step = Callable[[], object]
Script = Generator[Step | None, None, None]
MAX_LOOKS = 3000  # of one script, each about a millisecond apart


def config(state_dir: Path, tasks: Sequence[Json] = (), **tables: Any) -> Config:
    """Settings of a small and eager daemon: tiny engine, batches of four rows, no lingering within a test."""
    tables = {
        "stream": Stream(batch_size=4, linger_s=60.0),
        "publish": Publish(on_switch=False),
        "holdout": HoldoutSettings(salt=SALT),
        **tables,
    }
    return Config(
        state_dir=state_dir, redis_url="memory://", engine=dict(SMALL), tasks=list(tasks), **tables
    )


def loop(settings: Config, log: MemoryLog, start: str | None = None) -> Loop:
    """A loop as the daemon puts it together, over a log in memory."""
    return app.assemble(settings, start, MemorySource(log), SimpleQueue())


def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for disks and clocks."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("daemon.loop.IDLE_S", 0.002)
    monkeypatch.setattr("daemon.loop.FENCE_S", 0.0)
    monkeypatch.setattr("daemon.loop.BACK_OFF_S", (0.001, 0.002))
    monkeypatch.setattr("daemon.durability.IDLE_S", 0.0)
    monkeypatch.setattr("daemon.durability.RETRY_S", (0.0, 0.0))
    monkeypatch.setattr("daemon.durability.FULL_RETRY_S", 0.0)


def kill_at(monkeypatch: pytest.MonkeyPatch, place: str, time: int = 1) -> None:
    """Let the process end at the n-th time that the training thread reaches a place."""
    left = [time]

    def reach(name: str) -> None:
        left[0] -= name == place
        if left[0] == 0 and name == place:
            raise Killed

    for module in ("loop", "commit", "checkpointer", "app"):
        monkeypatch.setattr(f"daemon.{module}.reach", reach)


def ask(one: Loop, name: str, **args: Any) -> list[Json]:
    """Send a command; the list gets the answer when there is one."""
    answers: list[Json] = []
    one._requests.put(Request(name, args, answers.append))  # pyright: ignore[reportPrivateUsage]
    return answers


def is_quiet(one: Loop) -> bool:
    """Everything applied is durable, and everything durable is shown outside."""
    durable = one.durability
    return not (
        durable.checkpointer.busy
        or durable._is_dirty  # pyright: ignore[reportPrivateUsage]
        or durable.is_urgent
        or durable.committer.is_due
        or len(one.machine.outbox)
    )


def play(one: Loop, script: Script | None = None) -> None:
    """Run a loop, in this thread, and the script step by step each time it would sleep; then drain it.

    A step yields what it waits for: a function, or None for `is_quiet`. Instead of sleeping the loop looks
    whether that has come true, and goes on with the script.
    """
    looks, waits_for = 0, partial(is_quiet, one)
    answers: list[Json] | None = None

    def look(*_: object) -> bool:
        nonlocal looks, waits_for, answers
        looks += 1
        if looks > MAX_LOOKS:
            raise AssertionError(f"waited {MAX_LOOKS} times for {waits_for}")
        sleep(0.001)  # lets the checkpoint writer work
        if answers is None and waits_for():
            try:
                waits_for = (next(script) if script is not None else _end()) or partial(
                    is_quiet, one
                )
            except StopIteration:
                answers = ask(one, "drain")
        return True

    one.source.wait = look  # pyright: ignore[reportAttributeAccessIssue]
    one.steering.sleep = look  # pyright: ignore[reportAttributeAccessIssue]
    try:
        one.run()
    finally:
        if script is not None:
            script.close()  # what it patched is whole again


def _end() -> Step:
    raise StopIteration


def restarted(one: Loop, settings: Config, log: MemoryLog) -> Loop:
    """The loop of the next process: what the first one did not make durable is forgotten."""
    one.durability.checkpointer.wait()  # a thread of ours must not write below the next one
    return loop(settings, log)


def without_outbox(one: LogMachine) -> Recovered:
    """All that the machine is but what waits to leave, which depends on when checkpoints were."""
    found = recovered(state_of(one))
    found.meta.pop("outbox")
    return found
