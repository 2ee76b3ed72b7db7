"""`mtld rollback`: what is asked of the daemon, and only after the number was typed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from daemon import client

if TYPE_CHECKING:
    from daemon.types import Json
    from tests.daemon.commands.conftest import Mtld

PLAN = {
    "seq": 7, "step": 100, "from_step": 250, "watermark": "5-0", "events_after_it": 30, "is_replayable": True,
    "skips": [["6-0", "9-0"]],
}  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """What a daemon was asked; it plans, and does what it planned."""
    found: list[Json] = []

    def call(_: Any, name: str, args: Json, timeout_s: float) -> Json:
        del timeout_s
        found.append({"name": name, **args})
        return PLAN if args.get("dry_run") else {**PLAN, "checkpoint": 12, "epoch": 2}

    monkeypatch.setattr(client, "call", call)
    return found


def test_a_dry_run_shows_the_plan_and_nothing_more(mtld: Mtld, asked: list[Json]) -> None:
    shown = mtld("rollback", "7", "--dry-run").out
    assert "checkpoint 000007: step 250 goes back to 100" in shown
    assert "left out: 6-0 to 9-0" in shown
    assert [one.get("dry_run") for one in asked] == [True]


def test_without_the_number_nothing_is_done(mtld: Mtld, asked: list[Json]) -> None:
    result = mtld("rollback", "7", "--skip-to-now")
    assert result.code == 7
    assert "--confirm 7" in result.err
    assert all(one["dry_run"] for one in asked)


def test_with_it_the_daemon_is_asked_for_what_was_planned(mtld: Mtld, asked: list[Json]) -> None:
    result = mtld("rollback", "7", "--skip", "6-0..9-0", "--reason", "bad labels", "--confirm", "7")
    assert "checkpoint 000012, epoch 2" in result.out
    told = asked[-1]
    assert (told["seq"], told["skips"], told["reason"]) == (7, [["6-0", "9-0"]], "bad labels")


def test_a_range_may_be_given_in_times(mtld: Mtld, asked: list[Json]) -> None:
    mtld("rollback", "7", "--skip", "2026-01-31T03:00:00Z..2026-01-31T04:00:00+01:00", "--dry-run")
    assert asked[0]["skips"] == [["1769828400000-0", f"1769828400000-{(1 << 64) - 1}"]]


@pytest.mark.parametrize(
    ("text", "says"),
    [("6-0", "FIRST..LAST"), ("6-0..x", "'x'"), ("2026-01-31T03:00..7-0", "without a zone")],
)
def test_a_range_that_is_none_says_how_to_write_one(
    mtld: Mtld, asked: list[Json], text: str, says: str
) -> None:
    result = mtld("rollback", "7", "--skip", text, "--dry-run")
    assert (result.code, asked) == (2, [])
    assert says in result.err
