"""What `evaluate` is answered: everything that is known, of bounded size however many tasks there are."""

from __future__ import annotations

import json

from daemon.appraisal import CARDS, MATRIX_ROWS, appraise, narrowed
from daemon.client import MAX_REPLY_BYTES
from tests.support.core import add_task, entries, feed, fields, machine, rows, without_outbox
from tests.support.scorecards import card

LOG = [
    add_task("a", holdout=0.4),
    rows(1, 60),
    fields("mtl.task.switch.v1", "a", id="s1", data={"phase": "late"}),
    rows(61, 40, source="camera/1"),
    fields("mtl.control.v1", id="e", source="mtld", data={"kind": "evaluate"}),
]


def test_it_brings_scorecards_senders_what_flipped_and_the_step_of_the_log() -> None:
    one = machine()
    feed(one, entries(LOG))
    found = appraise(one)
    assert found["step"] == one.engine.step_count
    (task,) = found["scorecards"].values()
    assert sum(of["rows"] for of in task["classes"]) == found["rows"]["a"]
    assert set(found["senders"]["a"]) == {"test", "camera"}
    assert found["flipped"].keys() <= {"a", "a/late"}
    assert found["logged"]["step"] == one.evaluation.step > 0


def test_it_changes_nothing() -> None:
    one, other = machine(), machine()
    for each in (one, other):
        feed(each, entries(LOG))
    appraise(one)
    assert without_outbox(one).meta == without_outbox(other).meta
    for name, tensor in without_outbox(one).tensors.items():
        assert tensor.tobytes() == without_outbox(other).tensors[name].tobytes()


def test_the_newest_rows_of_the_matrix_are_told() -> None:
    one = machine()
    switches = [fields("mtl.task.switch.v1", "a", id=f"s {n}", data={"phase": f"p{n}"}) for n in range(MATRIX_ROWS + 5)]  # fmt: skip
    feed(one, entries([*LOG[:2], *switches]))
    found = appraise(one)["matrix"]["rows"]
    assert len(found) == MATRIX_ROWS
    assert found[-1]["phase"] == f"p{MATRIX_ROWS + 4}"


def test_of_many_tasks_the_first_are_told_class_by_class_and_the_named_ones() -> None:
    long = [f"{number:02d} {'é' * 126}" for number in range(32)]  # as long as labels may be
    counts = [[10 if row == column else 1 for column in range(32)] for row in range(32)]
    found = {"step": 1, "scorecards": {f"t{n}": card(long, counts) for n in range(CARDS + 60)}}
    told = narrowed(found, [])
    whole = [name for name, one in told["scorecards"].items() if "classes" in one]
    assert whole == [f"t{number}" for number in range(CARDS)]
    assert told["scorecards"][f"t{CARDS}"].keys() == {"worst", "collapsed"}
    assert len(json.dumps(told)) < MAX_REPLY_BYTES
    named = narrowed(found, [f"t{CARDS}"])["scorecards"]
    assert [name for name, one in named.items() if "classes" in one] == [f"t{CARDS}"]
