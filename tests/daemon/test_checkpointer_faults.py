"""A checkpoint that must not be, a disk that refuses, another writer, a crash: the cut before stays good."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from daemon import checkpointer as module
from daemon.checkpoint_store import MANIFEST, Store
from daemon.checkpointer import Checkpointer, Failed, Written
from tests.support.core import cut, line_of_cuts, write

if TYPE_CHECKING:
    from collections.abc import Callable


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


def test_a_state_that_is_no_json_costs_a_cut_and_not_the_process(root: Path) -> None:
    checkpointer, _ = _opened(root)
    for name in ("meta", "header"):
        outcome = write(checkpointer, cut(3, **{name: {"number": float("nan")}}))
        assert isinstance(outcome, Failed)
        assert "not JSON compliant" in outcome.reason
        assert not outcome.not_finite
        assert sorted(path.name for path in root.iterdir()) == ["000001", "000002", "CURRENT"]
    assert isinstance(write(checkpointer, cut(4)), Written)
    assert _number(root) == 4


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
