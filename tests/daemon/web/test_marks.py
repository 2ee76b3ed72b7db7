"""Marks of the charts: one for each thing that happened, however often it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon.types import Vitals
from daemon.web.marks import new

if TYPE_CHECKING:
    from daemon.types import Json


def line(kind: str, second: int = 1, **detail: Any) -> Json:
    """A journal line of that second."""
    return {"at": f"2026-01-01T00:00:{second:02d}Z", "kind": kind, "detail": detail}


def seen(*events: Json, known: list[Json] | None = None, **facts: Any) -> list[tuple[str, str]]:
    """The new marks of vitals with these journal lines."""
    told = Vitals(**{"events": list(events), "broker_up": True, **facts})
    return [(one["kind"], one["about"]) for one in new(told, known or [])]


@pytest.mark.parametrize(
    ("event", "mark"),
    [
        (line("rolled_back", checkpoint=3), ("rollback", "")),
        (line("guard_fell", parts={"a/x": {}, "a/y": {}, "b": {}}), ("fell", "a, b")),
        (line("guard_recovered", since="1-0"), ("recovered", "")),
        (line("snapshot_published", version=7, decision="promoted"), ("promoted", "v7")),
        (line("promoted", champion="v000012", before="v000010"), ("promoted", "v12")),
        (line("demoted", champion="v000010", before="v000012"), ("demoted", "v10")),
    ],
)
def test_what_changes_a_curve_makes_a_mark(event: Json, mark: tuple[str, str]) -> None:
    assert seen(event) == [mark]


def test_other_lines_and_letters_make_none() -> None:
    refused = line("snapshot_published", version=8, decision="refused")
    letter = {"at": "2026-01-01T00:00:01Z", "kind": "dead_letter", "reason": "bad_json"}
    assert seen(refused, letter, line("paused"), {"kind": "rolled_back"}) == []


def test_a_line_is_one_mark_even_if_a_crash_tells_it_again() -> None:
    fell, again = line("guard_fell", 1, parts={"a": {}}), line("guard_fell", 9, parts={"a": {}})
    known = new(Vitals(events=[fell]), [])
    assert seen(fell, again, known=known) == []


def test_what_falls_again_after_it_recovered_is_marked_again() -> None:
    fell, back = line("guard_fell", 1, parts={"a": {}}), line("guard_recovered", 2)
    known = new(Vitals(events=[fell, back]), [])
    assert seen(fell, back, line("guard_fell", 3, parts={"a": {}}), known=known) == [("fell", "a")]


def test_every_start_of_the_process_is_a_mark() -> None:
    first = new(Vitals(started_at="2026-01-01T00:00:00Z"), [])
    assert [one["kind"] for one in first] == ["started"]
    assert seen(known=first, started_at="2026-01-01T00:00:00Z") == []
    assert seen(known=first, started_at="2026-01-01T00:05:00Z") == [("started", "")]


def test_an_outage_has_a_beginning_and_an_end() -> None:
    away = {"state": "broker_down", "broker_up": False, "written_at": "2026-01-01T00:01:00Z"}
    begun = new(Vitals(**away), [])
    assert [one["kind"] for one in begun] == ["outage"]
    assert seen(known=begun, **away) == []
    starting = {"state": "starting", "broker_up": False}  # nothing is known of the server yet
    assert seen(known=begun, **starting, written_at="2026-01-01T00:02:00Z") == []
    assert seen(known=begun, written_at="2026-01-01T00:03:00Z") == [("back", "")]
