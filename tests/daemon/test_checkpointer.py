"""Durable cuts: written whole or not at all, linked where nothing changed, and never of broken weights."""

from __future__ import annotations

import errno
import json
import os
import resource
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

PLACES = ("staged", "written", "renamed", "current_swapped")


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


def test_the_copies_are_made_in_the_memory_of_the_last_cut(root: Path) -> None:
    checkpointer, _ = _opened(root)
    written: list[int] = []
    for number in (3, 4):
        write(checkpointer, cut(number))
        written.append(checkpointer._arena["x"].data_ptr())  # pyright: ignore
    assert written[0] == written[1]
    write(checkpointer, cut(5, tensors={"y": torch.ones(2)}, segments={}, weights=frozenset()))
    assert set(checkpointer._arena) == {"y"}  # pyright: ignore


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


# -- refusals ------------------------------------------------------------------------------------------------


def _refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_never_written(root: Path, bad: float) -> None:
    checkpointer, _ = _opened(root)
    x = torch.ones(4)
    x[2] = bad
    outcome = write(checkpointer, cut(3, tensors={"x": x}))
    assert isinstance(outcome, Failed)
    assert outcome.not_finite
    assert "x holds NaN or Inf" in outcome.reason
    assert sorted(path.name for path in root.iterdir()) == ["000001", "000002", "CURRENT"]


def test_other_tensors_may_hold_what_they_like(root: Path) -> None:
    checkpointer, _ = _opened(root)
    more = {"x": torch.full((4,), 3.0), "score": torch.tensor([float("nan")])}
    assert isinstance(write(checkpointer, cut(3, tensors=more)), Written)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EIO, errno.EMFILE])
@pytest.mark.parametrize(
    "where", ["os.link", "os.fsync", "Path.mkdir", "Path.rename", "Path.replace", "Path.open"]
)
def test_a_disk_that_refuses_leaves_the_cut_before_current_and_no_litter(
    root: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    checkpointer, _ = _opened(root)
    checkpointer.assume({"ring/0": 1})
    owner, _, name = where.partition(".")
    with monkeypatch.context() as patch:
        patch.setattr({"os": os, "Path": Path}[owner], name, _refusing(code))
        outcome = write(checkpointer, cut(3))
    assert isinstance(outcome, Failed)
    assert os.strerror(code) in outcome.reason
    assert not outcome.not_finite
    left = sorted(path.name for path in root.iterdir() if path.name != "CURRENT.tmp")
    assert left == ["000001", "000002", "CURRENT"]
    assert _number(root) == 2
    assert isinstance(write(checkpointer, cut(4)), Written)
    assert _number(root) == 4


def test_a_file_that_the_kernel_does_not_let_grow_is_a_failed_cut(root: Path) -> None:
    checkpointer, _ = _opened(root)
    big = {"x": torch.full((4,), 3.0), "big": torch.zeros(1 << 20)}
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    try:
        outcome = write(checkpointer, cut(3, tensors=big))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(outcome, Failed)
    assert "File too large" in outcome.reason
    assert not list(root.glob("*.tmp"))
    assert _number(root) == 2
    assert isinstance(
        write(checkpointer, cut(4, tensors=big | {"x": torch.full((4,), 4.0)})), Written
    )
    assert _number(root) == 4


def test_a_name_that_was_swapped_but_not_made_durable_is_the_parent_of_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpointer, _ = _opened(root)
    with monkeypatch.context() as patch:
        patch.setattr("daemon.checkpoint_store.sync_directory", _refusing(errno.EIO))
        assert isinstance(write(checkpointer, cut(3)), Failed)
    assert isinstance(write(checkpointer, cut(4)), Written)
    assert Store(root).lineage() == [4, 3, 2, 1]
    assert _number(root) == 4


@pytest.mark.parametrize("theirs", [1, 2])
def test_where_somebody_else_has_written_nothing_is_overwritten_or_removed(
    root: Path, theirs: int
) -> None:
    checkpointer, _ = _opened(root)
    other, _ = _opened(root)
    for number in range(theirs):
        assert isinstance(write(other, cut(5 + number)), Written)
    for number in range(4):
        assert isinstance(write(checkpointer, cut(80 + number)), Failed)
    assert Store(root).lineage() == [*range(2 + theirs, 0, -1)]
    assert [Store(root).load(2 + n + 1).meta["number"] for n in range(theirs)] == [5, 6][:theirs]


def test_a_current_that_names_another_cut_is_told(root: Path) -> None:
    checkpointer, _ = _opened(root)
    Store(root).make_current([1])
    outcome = write(checkpointer, cut(3))
    assert isinstance(outcome, Failed)
    assert "CURRENT does not name 2: another process has written here" in outcome.reason
    assert sorted(path.name for path in root.iterdir()) == ["000001", "000002", "CURRENT"]


def test_a_current_that_is_damaged_while_we_run_fails_the_cut_and_not_the_process(
    root: Path,
) -> None:
    checkpointer, _ = _opened(root)
    (root / "CURRENT").write_text("{")
    assert isinstance(write(checkpointer, cut(3)), Failed)
    assert _number(root) in {2, 3}


# -- crashes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("num_before", [0, 1, 4])
def test_a_crash_at_any_place_leaves_a_directory_that_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, num_before: int
) -> None:
    root, crashed = tmp_path / "checkpoints", tmp_path / "crashed"
    if num_before:
        line_of_cuts(root, num_before, keep=3)

    def copy(name: str) -> None:
        if name == place:
            shutil.copytree(root, crashed)

    monkeypatch.setattr(module, "reach", copy)
    checkpointer, _ = _opened(root, keep=3)
    write(checkpointer, cut(num_before + 1))
    monkeypatch.setattr(module, "reach", lambda _: None)
    survivor, found = _opened(crashed, keep=3)
    is_new = place == "current_swapped"
    if found is None:
        assert num_before == 0
        assert not is_new
    else:
        assert found.set_aside == []
        assert found.meta["number"] == num_before + is_new
    assert not list(crashed.glob("*.tmp"))
    outcome = write(survivor, cut(9))
    assert isinstance(outcome, Written)
    assert outcome.seq > num_before
    assert _number(crashed) == 9


def test_a_crash_between_any_two_system_calls_leaves_the_old_cut_or_the_new(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies: list[Path] = []

    def watched(owner: Any, name: str) -> None:
        real = vars(owner)[name]

        def call(*args: Any, **more: Any) -> Any:
            copies.append(tmp_path / f"crash-{len(copies)}")
            shutil.copytree(root, copies[-1], ignore_dangling_symlinks=True)
            return real(*args, **more)

        monkeypatch.setattr(owner, name, call)

    checkpointer, _ = _opened(root, keep=2)
    checkpointer.assume({"ring/0": 1})
    for owner, name in (
        (os, "link"),
        (os, "fsync"),
        (Path, "rename"),
        (Path, "replace"),
        (os, "rmdir"),
    ):
        watched(owner, name)
    checkpointer.stage(cut(3))
    assert isinstance(checkpointer.wait(), Written)
    monkeypatch.undo()
    numbers = [_number(copy) for copy in copies]
    assert len(numbers) >= 8
    assert numbers == sorted(numbers)
    assert set(numbers) == {2, 3}


def test_the_manifest_is_json_that_a_person_can_read(root: Path) -> None:
    told = json.loads((root / "000002" / MANIFEST).read_text())
    assert (told["seq"], told["parent"], told["step"], told["watermark"]) == (2, 1, 20, "2-0")
    assert set(told["files"]) == {"state.json", "state.safetensors", "ring+0.safetensors"}
    assert all(len(one["sha256"]) == 64 and one["bytes"] > 0 for one in told["files"].values())
