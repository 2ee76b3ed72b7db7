"""The vitals file: whole or not there, readable by an older version, and honest about who is alive."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from daemon import vitals
from daemon.types import Vitals


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "vitals.json"
    told = Vitals(
        written_at=vitals.now(), pid=7, state="training", tasks=[{"name": "a"}], counters={"x": 1}
    )
    vitals.write(path, told)
    assert vitals.read(path) == told
    assert [one.name for one in tmp_path.iterdir()] == ["vitals.json"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_file_that_is_missing_or_no_vitals_reads_as_none(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "vitals.json"
    if content is not None:
        path.write_bytes(content)
    assert vitals.read(path) is None


def test_scores_that_an_older_version_wrote_as_no_numbers_are_read_as_null(tmp_path: Path) -> None:
    path = tmp_path / "vitals.json"
    path.write_text('{"snapshot": {"scores": {"a": {"r2": NaN}}}}')
    assert vitals.read(path) == Vitals(snapshot={"scores": {"a": {"r2": None}}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        vitals.write(path, Vitals(rows_per_s=float("nan")))
    assert vitals.read(path) is not None, "what was there is gone"


def test_fields_of_a_newer_version_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "vitals.json"
    path.write_text('{"step": 3, "mood": "good"}')
    assert vitals.read(path) == Vitals(step=3)


@pytest.mark.parametrize(
    "content",
    [
        '{"pid": "1"}',
        '{"faults": []}',
        '{"step": 1.5}',
        '{"state": null}',
        '{"events": {}}',
        '{"lag_events": []}',
    ],
)
def test_a_field_of_another_type_makes_it_no_vitals(tmp_path: Path, content: str) -> None:
    path = tmp_path / "vitals.json"
    path.write_text(content)
    assert vitals.read(path) is None


def test_a_whole_number_is_a_number_and_what_may_be_missing_may_be_there(tmp_path: Path) -> None:
    path = tmp_path / "vitals.json"
    path.write_text('{"rows_per_s": 3, "lag_events": 4, "task": "a", "recovery_s": null}')
    assert vitals.read(path) == Vitals(rows_per_s=3, lag_events=4, task="a")


def test_a_file_too_large_to_be_ours_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "vitals.json"
    with path.open("wb") as file:
        file.truncate(vitals.MAX_BYTES + 1)
    assert vitals.read(path) is None


def test_the_process_that_wrote_is_alive() -> None:
    assert vitals.is_alive(Vitals(pid=os.getpid(), written_at=vitals.now()))


def test_a_process_that_took_over_the_pid_is_not_the_one_that_wrote() -> None:
    long_ago = (datetime.now(UTC) - timedelta(days=30)).isoformat()
    assert not vitals.is_alive(Vitals(pid=os.getpid(), written_at=long_ago))


def test_a_dead_process_is_not_alive_even_before_its_parent_noticed() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
    told = Vitals(pid=process.pid, written_at=vitals.now())
    assert not vitals.is_alive(told)
    process.wait()
    assert not vitals.is_alive(told)


def test_in_another_pid_namespace_a_fresh_file_is_a_live_process() -> None:
    told = Vitals(pid=os.getpid(), written_at=vitals.now(), pid_namespace="pid:[1]")
    assert vitals.is_alive(told)
    told.written_at = (datetime.now(UTC) - timedelta(seconds=vitals.FRESH_S + 5)).isoformat()
    assert not vitals.is_alive(told)


def test_nobody_is_not_alive() -> None:
    assert not vitals.is_alive(Vitals())


@pytest.mark.parametrize("stamp", ["", "yesterday", "2024-01-01T00:00:00"])
def test_an_age_is_only_told_of_a_time_with_its_zone(stamp: str) -> None:
    assert vitals.age_s(stamp) is None


def test_an_age_is_in_seconds() -> None:
    stamp = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    assert vitals.age_s(stamp) == pytest.approx(120, abs=2)


def test_writing_takes_no_new_room_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / vitals.NAME
    vitals.write(path, Vitals(step=1))
    vitals.write(path, Vitals(step=2))
    held = sum(one.stat().st_blocks for one in tmp_path.iterdir())
    for step in range(3, 9):
        vitals.write(path, Vitals(step=step, reason="x" * (100 * step)))
        told = vitals.read(path)
        assert told is not None
        assert told.step == step
    assert sum(one.stat().st_blocks for one in tmp_path.iterdir()) == held


def test_a_crash_between_two_renames_of_the_file_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / vitals.NAME
    vitals.write(path, Vitals(step=1))
    path.with_name(f".{path.name}.old").hardlink_to(path)
    vitals.write(path, Vitals(step=2))
    told = vitals.read(path)
    assert told is not None
    assert told.step == 2
    assert not path.with_name(f".{path.name}.old").exists()
