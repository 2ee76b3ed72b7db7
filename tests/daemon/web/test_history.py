"""The history: one point every 5 s, thinned with age, bounded, and the same after any restart."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from daemon.types import Vitals
from daemon.web import history
from daemon.web.history import MAX_POINTS, NAME, History

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_700_000_000


def at(seconds: float, **facts: Any) -> Vitals:
    """Vitals of that moment."""
    stamp = datetime.fromtimestamp(NOW + seconds, UTC).isoformat()
    tasks = [{"name": "a", "replay_rows": 7}]
    known: dict[str, Any] = {"written_at": stamp, "step": int(seconds), "tasks": tasks}
    return Vitals(
        **{**known, "losses": {"a": 0.5}, "evaluation": {"tasks": {"a": {"score": 0.75}}}, **facts}
    )


def switch(phase: str, step: int) -> dict[str, Any]:
    """A journal line."""
    detail = {"task": "a", "phase": phase, "step": step, "scores": {}}
    return {"at": "2026-01-01T00:00:00Z", "kind": "task_switched", "detail": detail}


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def kept(tmp_path: Path, said: list[str]) -> History:
    return History(tmp_path / NAME, said.append)


def again(tmp_path: Path, said: list[str]) -> History:
    return History(tmp_path / NAME, said.append)


def test_a_point_every_five_seconds_with_what_the_page_draws(kept: History) -> None:
    points = [kept.look(at(second)) for second in range(11)]
    assert [bool(point) for point in points] == [s % 5 == 0 for s in range(11)]
    assert kept.to_dict()["points"][0] == {
        "t": NOW, "step": 0, "rows_per_s": 0.0, "lag_events": None, "average_accuracy": None, "forgetting": None,
        "loss": {"a": 0.5}, "score": {"a": 0.75}, "replay_rows": {"a": 7},
    }  # fmt: skip


def test_a_trainer_that_stands_still_adds_nothing(kept: History) -> None:
    kept.look(at(0))
    assert [kept.look(at(0)) for _ in range(3)] == [None] * 3
    assert kept.look(at(5, busy="loading")) is None
    assert kept.look(Vitals()) is None


def test_a_clock_that_is_set_back_adds_one_point_and_goes_on(kept: History) -> None:
    kept.look(at(1000))
    assert kept.look(at(0)) is not None
    assert kept.look(at(0)) is None


@pytest.mark.parametrize("num", [MAX_POINTS - 1, MAX_POINTS, MAX_POINTS + 1, 3 * MAX_POINTS])
def test_any_span_of_time_has_a_bounded_number_of_points_from_its_first_to_its_last(
    tmp_path: Path, kept: History, said: list[str], num: int
) -> None:
    for number in range(num):
        kept.look(at(5 * number))
    times = [point["t"] - NOW for point in kept.points]
    assert len(times) <= MAX_POINTS
    assert len(times) >= min(num, MAX_POINTS // 2)
    assert (times[0], times[-1]) == (0, 5 * (num - 1))
    assert times == sorted(set(times))
    gaps = [b - a for a, b in pairwise(times)]
    assert gaps == sorted(gaps, reverse=True)  # the older the sparser
    lines = (tmp_path / NAME).read_text().count("\n")
    assert lines <= MAX_POINTS + 1
    assert again(tmp_path, said).points == kept.points
    assert not said


def test_a_switch_is_kept_once_however_often_it_is_told(
    tmp_path: Path, kept: History, said: list[str]
) -> None:
    lines = [switch("one", 10), {"kind": "paused", "at": "", "detail": {}}]
    kept.look(at(0, events=lines))
    kept.look(at(1, events=[*lines, switch("two", 20)]))
    again(tmp_path, said).look(
        at(2, events=[switch("two", 20)])
    )  # after a restart, or read again after a crash
    found = again(tmp_path, said).to_dict()["switches"]
    assert [(one["task"], one["phase"], one["step"]) for one in found] == [
        ("a", "one", 10),
        ("a", "two", 20),
    ]
    assert found[0]["t"] == 1767225600.0


def test_the_average_is_that_of_the_newest_evaluation(kept: History) -> None:
    point = kept.look(at(0, evaluation={"average": 0.75, "forgetting": 0.25}, scores={"a": 0.5}))
    assert point is not None
    assert (point["average_accuracy"], point["forgetting"], point["score"]) == (0.75, 0.25, {})


def test_marks_are_kept_and_survive_a_restart_of_the_sidecar(
    tmp_path: Path, kept: History, said: list[str]
) -> None:
    fell = {"at": "2026-01-01T00:00:00Z", "kind": "guard_fell", "detail": {"parts": {"a": {}}}}
    kept.look(at(0, events=[fell]))
    kept.look(at(5, events=[fell]))
    mark = {"t": 1767225600.0, "kind": "fell", "about": "a"}
    assert kept.to_dict()["marks"] == [mark]
    later = again(tmp_path, said)
    later.look(at(10, events=[fell]))
    assert later.marks == again(tmp_path, said).marks == [mark]


def test_marks_are_bounded(kept: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_MARKS", 3)
    for second in range(9):
        started = datetime.fromtimestamp(NOW + second, UTC).isoformat()
        kept.look(at(second, started_at=started))
    assert [mark["t"] - NOW for mark in kept.marks] == [6, 7, 8]


def test_switches_are_bounded(kept: History, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MAX_SWITCHES", 3)
    for step in range(9):
        kept.look(at(step, events=[switch("p", step)]))
    assert [one["step"] for one in kept.switches] == [6, 7, 8]


@pytest.mark.parametrize("damage", ['{"t": 1700000', "[1]", "\x00\x00", '{"t": "x"}', "NaN"])
def test_a_torn_line_is_dropped_and_the_file_written_anew(
    tmp_path: Path, kept: History, said: list[str], damage: str
) -> None:
    kept.look(at(0))
    path = tmp_path / NAME
    path.write_text(path.read_text() + damage)
    after = again(tmp_path, said)
    assert [point["step"] for point in after.points] == [0]
    after.look(at(5))
    assert [point["step"] for point in again(tmp_path, said).points] == [0, 5]


def test_a_file_that_is_not_ours_is_not_read(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "MAX_BYTES", 10)
    (tmp_path / NAME).write_text('{"t": 1, "rows_per_s": 1}\n')
    assert again(tmp_path, said).points == []


def test_a_full_disk_is_told_once_and_made_good_when_there_is_room(
    tmp_path: Path, said: list[str]
) -> None:
    missing = tmp_path / "not there"
    kept = History(missing / NAME, said.append)
    for second in (0, 5, 10):
        assert kept.look(at(second)) is not None
    assert len(said) == 1
    assert "memory" in said[0]
    missing.mkdir()
    kept.look(at(15))
    assert len(again(missing, said).points) == 4
