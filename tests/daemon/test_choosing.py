"""Average or live is decided by entries of the log alone: the same log decides the same, and scores are of what was decided."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from daemon import cut as cutting
from daemon import releases, steering
from daemon.events.control import decision
from daemon.types import Request
from tests.support.core import (
    RecordingLog,
    add_task,
    ask,
    config,
    differences,
    eager,
    entries,
    feed,
    fields,
    loop,
    machine,
    play,
    recovered,
    state_of,
    without_outbox,
)
from tests.support.spoilt import spoilt, varied

if TYPE_CHECKING:
    from pathlib import Path

    from daemon.loop import Loop
    from daemon.machine import LogMachine
    from daemon.types import Json
    from tests.support.core import Fields, Script

# An average of many steps follows the labels of now behind the live weights, once they are right again.
LATE = [
    add_task(holdout=0.4),
    *[varied(4 * k) for k in range(140)],
    *[spoilt(4000 + 4 * k) for k in range(100)],
    *[varied(8000 + 4 * k) for k in range(7)],
]
SWITCH = fields("mtl.task.switch.v1", "a", id="s", data={"phase": "late"})


def evaluate(place: int, **detail: str) -> Fields:
    return decision("evaluate", 1, f"{place}-0", detail)


COMPARED, SCORED = evaluate(1, compare="a", choose="yes"), evaluate(2, tasks="a")
SPOILT = [spoilt(9000 + 4 * k) for k in range(40)]
STORY = [
    evaluate(0, compare="a"), COMPARED, SCORED, *SPOILT,
    evaluate(3, compare="a,gone"), evaluate(4, compare="gone", choose="yes"), SCORED | {"id": "x"}, SWITCH,
]  # fmt: skip


@pytest.fixture(autouse=True)
def _eager(monkeypatch: pytest.MonkeyPatch) -> None:
    eager(monkeypatch)


def late() -> LogMachine:
    one = machine()
    feed(one, entries(LATE))
    return one


def journal(one: LogMachine) -> list[Json]:
    lines = [item.body for item in one.outbox.up_to(10**9) if item.kind == "journal"]
    return [line["detail"] for line in lines if line["kind"] == "weights_chosen"]


def tell(one: LogMachine, *story: Fields) -> LogMachine:
    feed(one, entries(story, start=1000 + one.ring.added))
    return one


def test_the_comparison_that_chooses_decides_and_what_is_scored_then_is_of_it() -> None:
    one = tell(late(), evaluate(0, compare="a"))
    assert (one.engine.choice.published, one.evaluation.tasks) == ("average", {})
    tell(one, COMPARED)
    assert one.engine.choice.published == "live"
    tell(one, SCORED)
    assert one.evaluation.tasks["a"]["weights"] == "live"
    assert one.evaluation.tasks["a"]["score"] == one.engine.judge.score().primary["a"]
    (line,) = journal(one)
    assert line["weights"] == "live"
    assert line["choice"]["interval"][1] < 0


@pytest.mark.parametrize("entry", [evaluate(1), SWITCH], ids=["evaluate all", "switch"])
def test_an_evaluation_of_all_at_once_and_a_switch_decide_and_score_in_one(entry: Fields) -> None:
    one = tell(late(), entry)
    assert one.engine.choice.published == "live"
    assert one.evaluation.tasks["a"]["weights"] == "live"
    assert len(journal(one)) == 1


def test_nothing_but_those_entries_decides() -> None:
    one = tell(late(), SCORED, fields("mtl.control.v1", id="f", source="mtld", data={"kind": "flush"}))  # fmt: skip
    one.engine.stage_snapshot()
    one.engine.evaluate_held_out()
    assert one.engine.choice.published == "average"


def test_a_new_process_after_every_entry_decides_the_same() -> None:
    straight, broken = late(), late()
    published: list[str] = []
    for entry in entries(STORY, start=5000):
        feed(straight, [entry])
        feed(broken, [entry])
        published.append(straight.engine.choice.published)
        other = machine()
        cutting.restore(recovered(state_of(broken)), other)
        broken = other
    assert differences(recovered(state_of(broken)), recovered(state_of(straight))) == []
    assert published[:2] == ["average", "live"]
    assert straight.engine.choice.told() == broken.engine.choice.told()


def test_what_fell_is_told_once_although_a_comparison_follows() -> None:
    one = tell(machine(), *LATE[:141], evaluate(0), *LATE[141:241], evaluate(1))
    kinds = [item.body.get("kind") for item in one.outbox.up_to(10**9)]
    assert kinds.count("guard_fell") == 1
    tell(one, evaluate(2, compare="a", choose="yes"))
    kinds = [item.body.get("kind") for item in one.outbox.up_to(10**9)]
    assert kinds.count("guard_fell") == 1


# -- the daemon's rounds and publications --------------------------------------------------------------------


@pytest.fixture
def log() -> RecordingLog:
    made = RecordingLog()
    for event in LATE:
        made.add(event)
    return made


@pytest.fixture
def one(tmp_path: Path, log: RecordingLog) -> Loop:
    return loop(config(tmp_path), log)


def decided(log: RecordingLog) -> list[Json]:
    """The decisions to evaluate in the log."""
    told = [json.loads(e.fields[b"data"]) for e in log.ever if e.fields[b"type"] == b"mtl.control.v1"]  # fmt: skip
    return [{k: v for k, v in each.items() if k != "kind"} for each in told if each["kind"] == "evaluate"]  # fmt: skip


def manifests(one: Loop) -> list[Json]:
    return [releases.manifest(each.path) for each in releases.catalogue(one.config.state_dir / "models")]  # fmt: skip


def test_a_publication_is_evaluated_first_and_says_what_was_decided(one: Loop, log: RecordingLog) -> None:  # fmt: skip
    def script() -> Script:
        yield None
        answers = ask(one, "publish")
        yield lambda: answers
        assert answers[0]["snapshot"]["version"] == 1

    play(one, script())
    assert decided(log) == [{"compare": "a", "choose": "yes"}, {"tasks": "a"}]
    (manifest,) = manifests(one)
    assert manifest["weights"] == "live"
    assert manifest["choice"]["interval"][1] < 0
    straight = machine(teacher_every=2000)
    feed(straight, log.ever)
    assert differences(without_outbox(one.machine), without_outbox(straight)) == []


def test_where_nothing_was_learned_since_the_last_evaluation_it_is_published_at_once(one: Loop, log: RecordingLog) -> None:  # fmt: skip
    def script() -> Script:
        yield None
        answers = ask(one, "score")
        yield lambda: answers and one.machine.evaluation.tasks
        yield None
        first = ask(one, "publish")
        yield lambda: first
        yield None
        by_schedule = ask(one, "publish", by="schedule")
        yield lambda: by_schedule
        assert by_schedule == [{"published": None}]

    play(one, script())
    assert len(decided(log)) == 2
    assert len(manifests(one)) == 1


@pytest.mark.parametrize("why", ["paused", "a long backlog"])
def test_where_the_evaluation_does_not_come_the_last_decision_is_published(
    one: Loop, log: RecordingLog, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    def script() -> Script:
        yield None
        if why == "paused":
            paused = ask(one, "pause", reason="test")
            yield lambda: paused
        else:
            monkeypatch.setattr(steering, "PUBLISH_WAIT_S", 0.0)
            monkeypatch.setattr(one.steering.round, "more", lambda: None)
        answers = ask(one, "publish")
        yield lambda: answers
        assert answers[0]["snapshot"]["version"] == 1

    play(one, script())
    (manifest,) = manifests(one)
    assert (manifest["weights"], manifest["choice"]) == ("average", None)


def test_a_rollback_ends_the_round_and_a_publication_that_waits_for_it_goes_on(one: Loop) -> None:
    answers: list[Json] = []
    play(one, iter(()) if False else None)
    one.steering.publish(Request("publish", {}, answers.append))
    assert one.steering.round.is_under_way
    assert not one.durability.publication.is_due
    one.steering.rolled_back()
    one.steering.look()
    assert one.durability.publication.is_due
