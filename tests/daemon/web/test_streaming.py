"""The pulse: what listeners of `/events` are told, when, and how far they may fall behind."""

from __future__ import annotations

import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from daemon import condition, vitals
from daemon.types import Vitals
from daemon.web.history import History
from daemon.web.streaming import KEPT, Pulse

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def pulse(tmp_path: Path) -> Pulse:
    return Pulse(tmp_path, History(tmp_path / "history.jsonl", pytest.fail))


def events(told: bytes) -> list[tuple[str, Any]]:
    """Names and bodies."""
    lines = [one.split("\n") for one in told.decode().strip().split("\n\n") if one]
    return [(name.removeprefix("event: "), json.loads(body[6:])) for name, body in lines]


def test_the_status_is_told_each_time_and_a_point_when_there_is_one(
    tmp_path: Path, pulse: Pulse
) -> None:
    known = Vitals(written_at=vitals.now(), pid=os.getpid(), state="training", step=5)
    vitals.write(tmp_path / vitals.NAME, known)
    pulse.beat()
    number, told = pulse.after(0, 0)
    (status, point) = events(told)
    assert status[0] == "status"
    expected = condition.judge(known, tmp_path)
    assert {**status[1], "written_s_ago": 0} == json.loads(
        json.dumps({**expected, "written_s_ago": 0})
    )
    assert (point[0], point[1]["step"]) == ("point", 5)
    pulse.beat()
    assert [name for name, _ in events(pulse.after(number, 0)[1])] == ["status"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"faults": 3}', '{"pid": "x"}', "{}"])
def test_no_or_torn_vitals_are_told_as_such(
    tmp_path: Path, pulse: Pulse, content: str | None
) -> None:
    if content is not None:
        (tmp_path / vitals.NAME).write_text(content)
    pulse.beat()
    ((name, body),) = events(pulse.after(0, 0)[1])
    assert name == "status"
    assert body["running"] is False
    assert ("error" in body) == (content != "{}")  # an empty object is one without facts


def test_a_new_listener_gets_the_newest_message_at_once(pulse: Pulse) -> None:
    for _ in range(3):
        pulse.beat()
    assert len(events(pulse.after(pulse.newest(), 0)[1])) == 1


def test_a_listener_who_is_far_behind_misses_some(pulse: Pulse) -> None:
    for _ in range(KEPT + 10):
        pulse.beat()
    number, told = pulse.after(0, 0)
    assert len(events(told)) == KEPT
    assert pulse.after(number, 0) == (number, b"")


def test_whoever_waits_is_woken_by_a_beat_and_by_the_end(pulse: Pulse) -> None:
    found: list[bytes] = []
    for wake in (pulse.beat, pulse.stop):
        waiting = threading.Thread(target=lambda: found.append(pulse.after(pulse._number, 20.0)[1]))  # pyright: ignore[reportPrivateUsage]
        waiting.start()
        while not pulse._changed._waiters:  # pyright: ignore
            pass
        wake()
        waiting.join(10.0)
    assert [bool(told) for told in found] == [True, False]
    assert pulse.is_stopped
    pulse.run()  # returns at once
