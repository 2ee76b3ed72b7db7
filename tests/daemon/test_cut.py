"""What a checkpoint of the daemon contains, through a real checkpoint on the disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from daemon import cut as cutting
from daemon.checkpointer import Checkpointer, Written
from daemon.config import Stream
from daemon.cut import Process
from daemon.reader import Position
from tests.support.core import (
    add_task,
    add_text,
    differences,
    entries,
    feed,
    machine,
    recovered,
    rows,
    state_of,
    texts,
    write,
)

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.machine import LogMachine

STORY = [add_task(holdout=0.3), rows(1, 9), add_text(), texts(1, 6), rows(20, 7), rows(9, task="b")]
HERE = Position("7-0", bytes(range(32)), 7, 9, "9-0")


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _machine(dedup_events: int = 64) -> LogMachine:
    one = machine(Stream(batch_size=4, dedup_events=dedup_events))
    feed(one, entries(STORY))
    return one


def _next(root: Path, dedup_events: int = 64) -> tuple[LogMachine, Checkpointer, Any]:
    """A new process on this directory: its machine, its checkpointer, and where it stands."""
    checkpointer = Checkpointer(root, 5)
    found = checkpointer.recover()
    one = machine(Stream(batch_size=4, dedup_events=dedup_events))
    assert found is not None
    stands = cutting.restore(found, one)
    versions = cutting.versions(one)
    checkpointer.assume({name: v for name, v in versions.items() if name in found.segments})
    return one, checkpointer, stands


def _save(one: LogMachine, checkpointer: Checkpointer) -> Written:
    outcome = write(checkpointer, cutting.take(one, HERE, Process(), {}))
    assert isinstance(outcome, Written), outcome
    return outcome


def test_everything_comes_back_from_the_disk_bit_for_bit(tmp_path: Path) -> None:
    one = _machine()
    process = Process(3, 4, "6-0", "5-0", 8, "lunch", "2030-01-01T00:00:00+00:00")
    checkpointer = Checkpointer(tmp_path, 5)
    checkpointer.recover()
    write(checkpointer, cutting.take(one, HERE, process, {"more": 1}))
    other, _, (position, restored) = _next(tmp_path)
    assert (position, restored) == (HERE, process)
    assert differences(recovered(state_of(one)), recovered(state_of(other))) == []
    assert other.outbox.up_to(99) == one.outbox.up_to(99)
    assert checkpointer.retained()[0]["more"] == 1
    assert cutting.position_of(checkpointer.retained()[0]) == HERE


def test_the_manifest_says_where_the_log_stands() -> None:
    header = cutting.take(machine(), HERE, Process(epoch=3, token=4), {"outbox_seq": 5}).header
    assert (header["watermark"], header["epoch"], header["token"], header["step"]) == (
        "7-0",
        3,
        4,
        0,
    )
    assert header["outbox_seq"] == 5


def test_the_weights_are_among_what_must_be_finite_and_counts_are_not() -> None:
    named = cutting.take(_machine(), HERE, Process(), {}).weights
    assert any("heads" in name for name in named)
    assert not any("held_out" in name or "machine" in name for name in named)


def test_a_checkpoint_after_a_start_writes_only_what_changed_since(tmp_path: Path) -> None:
    first = Checkpointer(tmp_path, 5)
    first.recover()
    whole = _save(_machine(), first)
    one, checkpointer, _ = _next(tmp_path)
    again = _save(one, checkpointer)
    assert again.bytes_written < whole.bytes_written
    manifest = checkpointer.store.manifest(again.seq)
    for name in manifest["segments"]:
        file = f"{name.replace('/', '+')}.safetensors"
        inodes = {(checkpointer.store.path(seq) / file).stat().st_ino for seq in (1, 2)}
        assert len(inodes) == 1, name
    other, _, _ = _next(tmp_path)
    assert differences(recovered(state_of(one)), recovered(state_of(other))) == []


@pytest.mark.parametrize(("before", "after"), [(64, 16), (16, 64), (16, 20), (20, 16)])
def test_a_ring_of_another_capacity_survives_checkpoints_without_new_events(
    tmp_path: Path, before: int, after: int
) -> None:
    one = _machine(before)
    feed(one, entries([rows(number, 1, task="nobody") for number in range(100, 130)], 50))
    checkpointer = Checkpointer(tmp_path, 5)
    checkpointer.recover()
    _save(one, checkpointer)
    known = [rows(number, 1, task="nobody") for number in range(130 - min(before, after), 130)]
    for _ in range(3):
        one, checkpointer, _ = _next(tmp_path, after)
        _save(one, checkpointer)
    assert one.ring.capacity == after
    seen = one.counters.duplicate_events
    feed(one, entries(known, 200))
    assert one.counters.duplicate_events == seen + len(known)
