"""The state machine: the same entries give the same state, and a bad entry gives a dead letter and nothing else."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import cut as cutting
from daemon.config import Stream
from daemon.types import Limits
from tests.support.core import (
    add_task,
    add_text,
    differences,
    entries,
    feed,
    fields,
    machine,
    recovered,
    rows,
    state_of,
    texts,
)
from tests.support.spoilt import varied

if TYPE_CHECKING:
    from daemon.machine import LogMachine
    from daemon.types import Json
    from tests.support.core import Fields

FLUSH = fields("mtl.control.v1", id="f", source="mtld", data={"kind": "flush"})
STORY = [
    add_task("a", holdout=0.3),
    rows(1),
    rows(2, 5),
    add_text("t"),
    texts(1, 3),
    rows(1),  # a duplicate
    rows(9, task="nobody"),  # a dead letter
    fields("mtl.task.switch.v1", "t", id="s1"),
    texts(5, 4),
    rows(20, 6),
    FLUSH,
    fields("mtl.task.update.v1", "a", id="u", data={"share": 3.0}),
    rows(30, 7),
    fields("mtl.task.retire.v1", "t", id="r"),
    rows(40, 6),
    fields("mtl.task.switch.v1", "a", id="s2", data={"phase": "late"}),
    rows(50, 3),
]


def _dead(one: LogMachine) -> list[str]:
    return [item.body["reason"] for item in one.outbox.up_to(10_000) if item.kind == "dead"]


def _journal(one: LogMachine) -> list[str]:
    return [item.body["kind"] for item in one.outbox.up_to(10_000) if item.kind == "journal"]


def _fed(*story: Fields, **more: Any) -> LogMachine:
    one = machine(**more)
    feed(one, entries(story))
    return one


# -- the same entries, the same state ------------------------------------------------------------------------


def _restored(one: LogMachine, mix: str = "log", **how: Any) -> LogMachine:
    """A machine of a new process, with the state of this one."""
    other = machine(Stream(batch_size=4, mix=mix), **how)
    cutting.restore(recovered(state_of(one)), other)
    return other


HOW: dict[str, tuple[str, Json]] = {
    "default": ("log", {}),
    "teacher and adamw": ("log", {"strategy": "lwf", "optimizer": {"name": "adamw", "lr": 0.01}}),
    "stored logits, by task": ("task", {"strategy": "derpp", "weights": "raw"}),
    "state of a strategy": ("log", {"strategy": "ewc", "teacher_every": 3}),
    "averaged teacher": ("task", {"strategy": "ema", "weights": "raw"}),
    "two gradients, clipped": ("log", {"strategy": "agem", "clip_norm": 0.1}),
}


@pytest.mark.parametrize(("mix", "how"), HOW.values(), ids=HOW)
def test_a_new_process_after_every_move_changes_not_one_bit(mix: str, how: Json) -> None:
    log = entries(STORY)
    straight, broken = (machine(Stream(batch_size=4, mix=mix), **how) for _ in range(2))
    feed(straight, log)
    for found in log:
        broken.enter(found)
        broken = _restored(broken, mix, **how)
        while broken.train_one():
            broken = _restored(broken, mix, **how)
    assert differences(recovered(state_of(broken)), recovered(state_of(straight))) == []
    assert straight.engine.step_count >= 8
    assert straight.counters.trained_rows == broken.counters.trained_rows > 20


def test_a_state_that_was_taken_and_restored_is_the_state_that_was_taken() -> None:
    one = _fed(*STORY)
    assert differences(recovered(state_of(_restored(one))), recovered(state_of(one))) == []


def test_taking_a_state_changes_nothing() -> None:
    one, other = machine(), machine()
    for found in entries(STORY):
        feed(one, [found])
        state_of(one)
        feed(other, [found])
    assert differences(recovered(state_of(one)), recovered(state_of(other))) == []


# -- bad events ----------------------------------------------------------------------------------------------

BAD: dict[str, tuple[str, Fields]] = {
    "a task nobody added": ("unknown_task", rows(9, task="b")),
    "an unknown type": ("unknown_type", fields("mtl.data.v9", "a")),
    "rows of another width": (
        "wrong_shape",
        fields("mtl.data.v1", "a", data={"x": [[1.0]], "y": [0]}),
    ),
    "a label for a row too few": (
        "length_mismatch",
        fields("mtl.data.v1", "a", data={"x": [[1.0, 2, 3]] * 2, "y": [0]}),
    ),
    "labels of another type": (
        "mixed_label_types",
        fields("mtl.data.v1", "a", data={"x": [[1.0, 2, 3]], "y": ["one"]}),
    ),
    "one class too many": (
        "too_many_classes",
        fields("mtl.data.v1", "a", data={"x": [[1.0, 2, 3]] * 9, "y": list(range(50, 59))}),
    ),
    "no payload": ("missing_data", fields("mtl.data.v1", "a")),
    "rows for no task": ("missing_subject", fields("mtl.data.v1", data={"x": [[1.0, 2, 3]]})),
    "the same id with another payload": ("id_reused", rows(1, 2, id="a 1")),
    "a task that exists with other settings": (
        "task_exists",
        add_task("a", max_classes=9) | {"id": "n"},
    ),
    "a task with a setting that does not exist": ("refused_by_engine", add_task("n", colour="red")),
    "a task whose setting is out of range": ("refused_by_engine", add_task("n", share=-1)),
    "a switch to nowhere": ("unknown_task", fields("mtl.task.switch.v1", "b")),
    "an update of nothing": ("unknown_task", fields("mtl.task.update.v1", "b", data={"share": 1})),
    "retiring nobody": ("unknown_task", fields("mtl.task.retire.v1", "b")),
    "a decision that is not known": (
        "unknown_control",
        fields("mtl.control.v1", id="x", source="mtld", data={"kind": "explode"}),
    ),
}


@pytest.mark.parametrize(("reason", "bad"), BAD.values(), ids=BAD.keys())
def test_a_bad_event_changes_nothing_but_what_tells_of_it(reason: str, bad: Fields) -> None:
    one = _fed(add_task(max_classes=5), rows(1), rows(4))
    before = recovered(state_of(one))
    counted = dict(before.meta["machine"]["counters"])
    feed(one, entries([bad], start=70))
    after = recovered(state_of(one))
    letters = [item["body"] for item in after.meta["outbox"]["items"] if item["kind"] == "dead"]
    assert [letter["reason"] for letter in letters] == [reason]
    assert letters[0]["id"] == "70-0"
    assert len(letters[0]["message"]) > 10
    counted["dead_events"] += 1
    counted["dead_rows"] += int(bad.get("mtlrows", "0"))
    assert after.meta["machine"]["counters"] == counted
    assert set(differences(before, after)) <= {"meta", "keys"}  # keys: the ring
    for meta in (before.meta, after.meta):
        meta.pop("outbox")
        meta["machine"].pop("counters")
        meta["machine"].pop("ring_added")
    assert before.meta == after.meta


def test_a_dead_letter_is_remembered_too_so_that_sent_again_it_is_a_duplicate() -> None:
    one = _fed(rows(1), rows(1))
    assert (one.counters.dead_events, one.counters.duplicate_events) == (1, 1)
    assert _dead(one) == ["unknown_task"]


def test_a_reused_id_is_refused_once_however_often_its_entry_is_read() -> None:
    one = machine()
    log = entries([add_task(), rows(1), rows(2, id="a 1")])
    feed(one, log)
    one.rereading = True
    feed(one, log)
    one.rereading = False
    feed(one, log[2:])
    assert _dead(one) == ["id_reused"]
    told = one.counters
    assert (told.dead_events, told.reread_events, told.duplicate_events) == (1, 3, 1)


def test_an_entry_without_a_name_dies_once_for_each_place() -> None:
    anonymous = {"data": "x"}
    assert _dead(_fed(anonymous, anonymous)) == ["missing_field", "missing_field"]


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2000) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
SPEC_KEYS = (
    *(
        "modality",
        "kind",
        "input_shape",
        "encoder",
        "targets",
        "classes",
        "max_classes",
        "max_bytes",
    ),
    *("scale", "share", "min_share", "loss_weight", "tolerance", "holdout", "name", "other"),
)
SPECS = st.dictionaries(
    st.sampled_from(SPEC_KEYS),
    JUNK | st.sampled_from(["text", "image", "regression", "image_mlp", "embedding"]),
    max_size=4,
)


@settings(max_examples=80, deadline=None)
@given(SPECS, JUNK)
def test_whatever_a_task_is_declared_as_the_machine_lives_on(spec: Json, x: Any) -> None:
    one = _SHARED
    known = len(one.engine.tasks)
    log = [fields("mtl.task.add.v1", "j", id=str(one.ring.added), data=spec)]
    log += [fields("mtl.data.v1", "j", id=f"d{one.ring.added}", data={"x": x, "y": x})]
    feed(one, entries(log))
    if len(one.engine.tasks) > known:
        feed(one, entries([fields("mtl.task.retire.v1", "j", id=f"r{one.ring.added}")]))
    assert len(one.engine.tasks) == known
    json.dumps(one.state()[1])


_SHARED = machine()


# -- what events do --------------------------------------------------------------------------------------------


def test_rows_wait_until_a_batch_is_full() -> None:
    one = machine()
    log = entries([add_task(), rows(1, 3), rows(9, 3)])
    feed(one, log[:2])
    assert (one.engine.step_count, len(one.batcher), one.counters.trained_rows) == (0, 3, 0)
    feed(one, log[2:])
    assert (one.engine.step_count, len(one.batcher), one.counters.trained_rows) == (1, 2, 4)


@pytest.mark.parametrize("kind", ["mtl.task.switch.v1", "mtl.task.retire.v1"])
def test_a_switch_or_the_end_of_a_task_trains_what_is_pending_first(kind: str) -> None:
    one = _fed(add_task(), rows(1, 3), fields(kind, "a", id="x"))
    assert (one.engine.step_count, len(one.batcher), one.counters.trained_rows) == (1, 0, 3)


def test_a_flush_trains_what_is_pending_and_is_no_data() -> None:
    one = _fed(add_task(), rows(1, 3), FLUSH)
    assert (one.counters.trained_rows, one.counters.control_events) == (3, 2)
    assert one.counters.accepted_events == 1


def test_a_flush_in_a_machine_without_rows_does_nothing() -> None:
    assert _fed(add_task(), FLUSH).engine.step_count == 0


def test_a_switch_scores_the_hold_outs_moves_the_focus_and_is_journalled() -> None:
    one = _fed(
        add_task(holdout=0.5),
        rows(1, 20),
        fields("mtl.task.switch.v1", "a", id="s", data={"phase": "p"}),
    )
    assert one.engine.focus == ("a", "p")
    assert one.last_switch["task"] == "a"
    assert one.last_switch["step"] == one.engine.step_count
    assert 0 <= one.last_switch["scores"]["a"] <= 1
    assert _journal(one) == ["task_added", "task_switched"]


def test_a_retired_task_is_forgotten_and_its_name_is_free() -> None:
    one = _fed(add_task(), rows(1, 8), fields("mtl.task.retire.v1", "a", id="r"), rows(50))
    assert list(one.engine.tasks) == []
    assert _dead(one) == ["unknown_task"]
    feed(one, entries([add_text("a") | {"id": "again"}, texts(70, 4, "a")], start=90))
    assert one.engine.tasks["a"].modality == "text"
    assert one.counters.trained_rows == 12


def test_an_update_changes_what_it_names() -> None:
    one = _fed(add_task(), fields("mtl.task.update.v1", "a", id="u", data={"share": 2.5}))
    assert (one.engine.tasks["a"].share, one.engine.tasks["a"].loss_weight) == (2.5, 1.0)


def test_the_same_task_declared_again_under_another_id_is_no_error() -> None:
    one = _fed(add_task(), add_task() | {"id": "another"})
    assert (_dead(one), _journal(one), one.counters.control_events) == ([], ["task_added"], 2)


def test_held_out_rows_are_kept_for_scoring_and_never_pending() -> None:
    one = _fed(add_task(holdout=0.5), *[varied(number, 1) for number in range(40)])
    held = one.counters.held_out_rows
    assert 8 < held < 32
    assert one.counters.trained_rows + len(one.batcher) + held == 40
    kept = state_of(one).tensors
    assert (
        sum(int(kept[f"engine/held_out.{key}.filled_G"].sum()) for key in ("a", "a@select")) == held
    )


def test_unlabelled_rows_are_counted_and_those_of_a_content_that_is_held_out_go_with_it() -> None:
    x = [[1.0, 2.0, float(place)] for place in range(40)]
    no_y = fields("mtl.data.v1", "a", id="n", data={"x": x}, mtlrows=40)
    with_y = fields("mtl.data.v1", "a", id="y", data={"x": x, "y": [0, 1] * 20}, mtlrows=40)
    one = _fed(add_task(holdout=0.5), with_y)
    held = one.counters.held_out_rows
    assert 8 < held < 32
    feed(one, entries([no_y], 50))
    assert (one.counters.unlabelled_rows, one.counters.held_out_rows) == (40, 2 * held)


def test_one_row_may_serve_several_tasks() -> None:
    x = [[1.0, 0.5, place] for place in range(4)]
    both = {"x": x, "y": {"a": [0, 1, 0, 1], "b": [2, 2, 3, 3]}}
    one = _fed(add_task("a"), add_task("b"), fields("mtl.data.v1", id="m", data=both))
    assert (_dead(one), one.counters.trained_rows, one.engine.step_count) == ([], 4, 1)
    classes = {task["name"]: task["classes"] for task in one.engine.describe()["tasks"]}
    assert classes == {"a": [0, 1], "b": [2, 3]}


def test_duplicates_are_counted_with_the_rows_they_declare() -> None:
    one = _fed(add_task(), rows(1, 5), rows(1, 5), rows(1, 5))
    assert (one.counters.duplicate_events, one.counters.duplicate_rows) == (2, 10)
    assert one.counters.accepted_events == 1


def test_after_a_regression_known_entries_are_read_again_and_not_duplicates() -> None:
    one = machine()
    log = entries([add_task(), rows(1, 5)])
    feed(one, log)
    one.rereading = True
    feed(one, log)
    assert (one.counters.reread_events, one.counters.duplicate_events) == (2, 0)


def test_a_decision_sent_twice_is_no_producer_s_duplicate() -> None:
    one = _fed(add_task(), rows(1, 3), FLUSH, FLUSH)
    assert (one.counters.duplicate_events, one.counters.control_events) == (0, 3)
    assert one.engine.step_count == 1


def test_an_event_larger_than_allowed_dies_unparsed() -> None:
    one = machine()
    one._limits = Limits(max_event_bytes=500)  # pyright: ignore[reportPrivateUsage]
    feed(one, entries([add_task(), rows(1, 60)]))
    assert _dead(one) == ["oversized"]


EVENTS = st.one_of(
    st.builds(rows, st.integers(0, 6), st.integers(1, 6)),
    st.builds(lambda n, c: rows(n, c, task="b"), st.integers(0, 6), st.integers(1, 4)),
    st.builds(lambda n: rows(n, 2, data={"x": [[1.0]] * 2, "y": [0, 0]}), st.integers(0, 6)),
    st.builds(lambda n: fields("mtl.task.switch.v1", "a", id=f"s{n}"), st.integers(0, 3)),
    st.just(FLUSH),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(EVENTS, max_size=14))
def test_every_row_sent_is_trained_held_out_duplicate_dead_or_pending(log: list[Fields]) -> None:
    one = _fed(add_task(holdout=0.3), *log)
    told = one.counters
    sent = sum(int(made.get("mtlrows", 0)) for made in log)
    found = told.trained_rows + told.held_out_rows + told.duplicate_rows + told.dead_rows
    assert found + len(one.batcher) == sent
    events = told.accepted_events + told.duplicate_events + told.dead_events + told.control_events
    assert events == 1 + len(log)
    assert told.dead_events == Counter(item.kind for item in one.outbox.up_to(10_000))["dead"]


def test_the_key_returned_is_the_anchor_whatever_became_of_the_entry() -> None:
    one = machine()
    log = entries([add_task(), rows(1), rows(1), rows(9, task="nobody")])
    keys = [one.enter(found) for found in log]
    assert keys[1] == keys[2]
    assert len({*keys}) == 3
