"""Durable cuts: written whole or not at all, linked where nothing changed, and never of broken weights."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from daemon import checkpointer as module
from daemon.checkpoint_store import MANIFEST, STATE_TENSORS, Store
from daemon.checkpointer import Checkpointer, Failed, Written
from tests.support.core import cut, flip_bit, line_of_cuts, write

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.types import Json


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(os, "fsync", lambda _: None)  # the disk is slow and not what is tested


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two cuts, 1 <- 2."""
    line_of_cuts(tmp_path / "checkpoints", 2)
    return tmp_path / "checkpoints"


def _opened(root: Path, keep: int = 5) -> tuple[Checkpointer, Any]:
    checkpointer = Checkpointer(root, keep)
    return checkpointer, checkpointer.recover()


def _number(root: Path) -> int:
    """The number that the newest good cut tells."""
    found = Checkpointer(root, 5).recover()
    assert found is not None
    assert float(found.tensors["x"][0]) == found.meta["number"]
    return found.meta["number"]


# -- what is written comes back ------------------------------------------------------------------------------


def test_what_was_staged_comes_back_bit_for_bit(tmp_path: Path) -> None:
    checkpointer, found = _opened(tmp_path / "new")
    assert found is None
    weights = torch.randn(5, 3)
    columns = {"x": torch.arange(6, dtype=torch.uint8), "z": torch.randn(2, 2).half()}
    one = cut(
        1,
        tensors={"x": torch.ones(4), "w": weights, "n": np.arange(3)},
        segments={"s": (9, columns)},
    )
    outcome = write(checkpointer, one)
    assert isinstance(outcome, Written)
    assert outcome.bytes_written > 0
    _, found = _opened(tmp_path / "new")
    np.testing.assert_array_equal(found.tensors["w"], weights.numpy())
    np.testing.assert_array_equal(found.segments["s"]["z"], columns["z"].numpy())
    np.testing.assert_array_equal(found.segments["s"]["x"], columns["x"].numpy())
    assert found.tensors["n"].tolist() == [0, 1, 2]
    assert (found.seq, found.meta, found.header["step"]) == (1, {"number": 1}, 10)


def test_training_may_change_the_tensors_as_soon_as_they_are_staged(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    monkeypatch.setattr(module, "reach", lambda name: name == "staged" or gate.wait(5))
    checkpointer, _ = _opened(root)
    one = cut(3)
    checkpointer.stage(one)
    assert checkpointer.busy
    assert checkpointer.poll() is None
    one.tensors["x"].fill_(-1)
    one.meta["number"] = -1
    gate.set()
    assert isinstance(checkpointer.wait(), Written)
    assert not checkpointer.busy
    assert checkpointer.poll() is None
    assert _number(root) == 3


def test_a_second_cut_waits_for_the_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    monkeypatch.setattr(module, "reach", lambda name: name == "staged" or gate.wait(5))
    checkpointer, _ = _opened(root)
    checkpointer.stage(cut(3))
    with pytest.raises(AssertionError, match="poll"):
        checkpointer.stage(cut(4))
    gate.set()
    assert isinstance(checkpointer.wait(), Written)


def test_what_follows_a_cut_runs_once_it_is_current_and_not_before(root: Path) -> None:
    checkpointer, _ = _opened(root)
    seen: list[int] = []
    checkpointer.stage(cut(3), lambda: seen.append(Store(root).lineage()[0]))
    checkpointer.wait()
    checkpointer.stage(cut(4, tensors={"x": torch.tensor([float("nan")])}), lambda: seen.append(-1))
    assert isinstance(checkpointer.wait(), Failed)
    assert seen == [3]


# -- lineage, numbers, retention -----------------------------------------------------------------------------


def test_numbers_rise_and_each_cut_names_its_parent(root: Path) -> None:
    checkpointer, _ = _opened(root)
    for number in (3, 4):
        write(checkpointer, cut(number))
    parents = {seq: Store(root).manifest(seq)["parent"] for seq in (1, 2, 3, 4)}
    assert parents == {1: None, 2: 1, 3: 2, 4: 3}
    assert [header["step"] for header in checkpointer.retained()] == [40, 30, 20, 10]


def test_a_number_is_never_used_again_after_a_failure_or_a_crash(root: Path) -> None:
    checkpointer, _ = _opened(root)
    assert write(checkpointer, cut(3, tensors={"x": torch.tensor([float("inf")])})).seq == 3
    assert write(checkpointer, cut(4)).seq == 4
    shutil.copytree(root / "000004", root / "000009")  # renamed, never current
    (root / "000011.tmp").mkdir()
    checkpointer, _ = _opened(root)
    assert write(checkpointer, cut(5)).seq == 12


def test_only_the_newest_are_kept_and_the_oldest_goes_after_the_newest_counts(root: Path) -> None:
    checkpointer, _ = _opened(root, keep=3)
    for number in range(3, 9):
        write(checkpointer, cut(number))
        kept = sorted(path.name for path in root.iterdir() if path.name.isdigit())
        assert kept == [f"{seq:06d}" for seq in range(max(1, number - 2), number + 1)]
    assert [header["step"] for header in checkpointer.retained()] == [80, 70, 60]


def test_an_older_one_stays_for_a_rollback_also_after_a_start(root: Path) -> None:
    checkpointer = Checkpointer(root, 2, keep_hourly=2)
    checkpointer.recover()
    for number in range(3, 7):
        write(checkpointer, cut(number))
    assert [header["step"] for header in checkpointer.retained()] == [60, 50, 10]
    again = Checkpointer(root, 2, keep_hourly=2)
    found = again.recover()
    assert found is not None
    assert found.seq == 6
    write(again, cut(7))
    assert [header["step"] for header in again.retained()] == [70, 60, 10]


def test_a_damaged_ancestor_does_not_stop_a_start_and_is_not_retained(root: Path) -> None:
    (root / "000001" / MANIFEST).unlink()
    checkpointer, found = _opened(root)
    assert found.seq == 2
    assert [header["step"] for header in checkpointer.retained()] == [20]


def test_a_lost_current_is_told_as_something_set_aside(root: Path) -> None:
    (root / "CURRENT").unlink()
    _, found = _opened(root)
    assert found.seq == 2
    assert found.set_aside == ["CURRENT is missing: made again from 2 and its parents"]


def test_after_a_fall_back_new_cuts_descend_from_the_one_fallen_back_to(root: Path) -> None:
    flip_bit(root / "000002" / STATE_TENSORS, 900)
    checkpointer, found = _opened(root)
    assert (found.seq, len(found.set_aside)) == (1, 1)
    write(checkpointer, cut(3))
    assert Store(root).lineage() == [3, 1]
    assert Store(root).manifest(3)["parent"] == 1


# -- segments ------------------------------------------------------------------------------------------------


def _segments(**versions: int) -> dict[str, tuple[int, Json]]:
    return {name: (v, {"keys": np.full(3, v, np.uint8)}) for name, v in versions.items()}


def test_unchanged_segments_are_hard_links_and_changed_ones_new_files(root: Path) -> None:
    checkpointer, _ = _opened(root)
    first = write(checkpointer, cut(3, segments=_segments(a=1, b=1)))
    second = write(checkpointer, cut(4, segments=_segments(a=1, b=2)))
    inode = {
        (seq, name): (root / f"{seq:06d}" / f"{name}.safetensors").stat().st_ino
        for seq in (3, 4)
        for name in "ab"
    }
    assert inode[3, "a"] == inode[4, "a"]
    assert inode[3, "b"] != inode[4, "b"]
    assert isinstance(first, Written)
    assert isinstance(second, Written)
    assert second.bytes_written < first.bytes_written
    _, found = _opened(root)
    assert [found.segments[name]["keys"][0] for name in "ab"] == [1, 2]


def test_a_segment_that_is_gone_is_not_carried_on(root: Path) -> None:
    checkpointer, _ = _opened(root)
    write(checkpointer, cut(3, segments=_segments(a=1, b=1)))
    write(checkpointer, cut(4, segments=_segments(b=1)))
    _, found = _opened(root)
    assert sorted(found.segments) == ["b"]


def test_after_a_start_segments_are_linked_only_if_they_are_said_to_be_as_saved(root: Path) -> None:
    before = (root / "000002" / "ring+0.safetensors").stat().st_ino
    for versions, is_linked in (({}, False), ({"ring/0": 1}, True)):
        checkpointer, found = _opened(root)
        checkpointer.assume(versions)
        outcome = write(checkpointer, cut(found.meta["number"] + 1))
        path = Store(root).path(outcome.seq) / "ring+0.safetensors"
        assert (path.stat().st_ino == before) is is_linked
        before = path.stat().st_ino


def test_a_segment_whose_write_failed_is_written_by_the_next_cut(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer, _ = _opened(root)
    with monkeypatch.context() as patch:
        patch.setattr(module, "sha256", _refusing(errno.ENOSPC))
        assert isinstance(write(checkpointer, cut(3, segments=_segments(a=7))), Failed)
    assert isinstance(write(checkpointer, cut(4, segments=_segments(a=7))), Written)
    _, found = _opened(root)
    assert found.segments["a"]["keys"].tolist() == [7, 7, 7]


def test_a_segment_missing_in_the_parent_costs_one_cut_and_not_all(root: Path) -> None:
    checkpointer, _ = _opened(root)
    checkpointer.assume({"ring/0": 1})
    (root / "000002" / "ring+0.safetensors").unlink()
    failed = write(checkpointer, cut(3))
    assert isinstance(failed, Failed)
    assert "ring+0.safetensors" in failed.reason
    assert isinstance(write(checkpointer, cut(4)), Written)
    assert _number(root) == 4


def _refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse
