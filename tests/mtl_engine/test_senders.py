"""Who sent rows that the model finds wrong: what is counted, for whom, over which time, and when somebody is named."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mtl_engine.senders import EVERY, LARGEST_NUMBER, SLICE_ROWS, SLICES, suspects
from mtl_engine.types import Json
from tests.support.engines import blobs, differences, engine, labels_of, loaded, parts, saved, task

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mtl_engine.engine import Engine

BATCH = 32
GOOD, BAD = 0, 7


def one_task(kind: str = "classification", **settings: Any) -> Engine:
    one = engine(**settings)
    one.add_task(task("a", kind))
    return one


def sent(one: Engine, origins: Sequence[int], seed: int, *, name: str = "a") -> None:
    """A step on rows of three classes; the labels of those that `BAD` sent are exchanged."""
    draw = np.random.default_rng(seed)
    origin_B = np.asarray(origins, np.int32)
    true_B = draw.integers(0, 3, len(origin_B))
    told_B = np.where(origin_B == BAD, (true_B + 1) % 3, true_B)
    rows = one.prepare(name, blobs(true_B.tolist(), seed), told_B)
    one.step([replace(rows, origin=origin_B)])


def steps(one: Engine, count: int, bad: float = 0.25, first: int = 0) -> None:
    for seed in range(first, first + count):
        is_bad = np.random.default_rng(1000 + seed).random(BATCH) < bad
        sent(one, np.where(is_bad, BAD, GOOD).tolist(), seed)


def test_a_sender_with_exchanged_labels_has_the_lower_score_and_is_named() -> None:
    one = one_task()
    steps(one, 160)
    told = one.senders()["a"]
    assert told[GOOD]["score"] > 0.8
    assert told[BAD]["score"] < 0.3
    assert suspects(told) == [BAD]


def test_two_senders_of_the_same_kind_of_rows_are_not_told_apart() -> None:
    one = one_task()
    for seed in range(160):
        sent(one, [seed % 2] * BATCH, seed)
    told = one.senders()["a"]
    assert set(told) == {0, 1}
    assert suspects(told) == []


def test_one_step_in_four_is_looked_at_and_only_rows_that_say_who_sent_them() -> None:
    one = one_task()
    for seed in range(2 * EVERY):
        sent(one, [-1] * 8 + [GOOD] * 24, seed)
    one.observe("a", blobs([0, 1]), [0, 1])
    assert one.senders()["a"][GOOD]["rows"] == 48
    assert set(one.senders()["a"]) == {GOOD}
    silent = one_task()
    for _ in range(EVERY):
        silent.observe("a", blobs([0, 1]), [0, 1])
    assert silent.senders() == {}


@pytest.mark.parametrize("turns", [2, 3, 4, 8])
def test_of_senders_that_take_turns_each_is_looked_at(turns: int) -> None:
    one = one_task()
    for seed in range(40 * turns):
        sent(one, [seed % turns] * 4, seed)
    rows = [told["rows"] for told in one.senders()["a"].values()]
    assert len(rows) == turns
    assert all(24 <= number <= 56 for number in rows)


def test_rows_without_a_label_of_the_task_are_not_counted() -> None:
    one = one_task()
    for seed in range(EVERY):
        rows = one.prepare("a", blobs([0, 1, 2, 0], seed), [0, 1, 2, 0], [1, 0, 1, 0])
        one.step([replace(rows, origin=np.array([1, 1, 2, 2], np.int32))])
    assert {number: told["rows"] for number, told in one.senders()["a"].items()} == {1: 1, 2: 1}


def test_a_window_forgets_what_is_older_than_its_slices() -> None:
    one = one_task()
    for seed in range(EVERY):
        sent(one, [3] * BATCH, seed)
    per_slice = EVERY * SLICE_ROWS // BATCH
    assert one.senders()["a"][3]["rows"] == BATCH
    steps(one, SLICES * per_slice, 0.5)
    told = one.senders()["a"]
    assert 3 not in told
    assert sum(sender["rows"] for sender in told.values()) <= SLICES * (SLICE_ROWS + BATCH)


def test_a_sender_is_compared_only_with_those_who_sent_at_the_same_time() -> None:
    """Here the one with the low score stops before the other begins: it may have been the time."""
    one = one_task()
    per_slice = EVERY * SLICE_ROWS // BATCH
    for seed in range(3 * per_slice):
        sent(one, [BAD if seed % 2 else -1] * BATCH, seed)
    for seed in range(3 * per_slice, 6 * per_slice):
        sent(one, [GOOD] * BATCH, seed)
    report = one.senders()["a"]
    assert report[BAD]["score"] < 0.6
    assert report[GOOD]["score"] > 0.8
    assert all((told["beside"] or {"slices": 0})["slices"] <= 1 for told in report.values())
    assert suspects(report) == []


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_other_kinds_count_by_how_wrong_a_row_is(kind: str) -> None:
    one = one_task(kind)
    for seed in range(2 * EVERY):
        rows = one.prepare("a", blobs([0] * BATCH, seed), labels_of(kind, BATCH, seed))
        one.step([replace(rows, origin=np.full(BATCH, LARGEST_NUMBER, np.int32))])
    told = one.senders()["a"][LARGEST_NUMBER]
    assert told["rows"] == 2 * BATCH
    assert 0.0 < told["score"] < 1.0


def test_rows_whose_outputs_are_no_numbers_count_as_wrong() -> None:
    one = one_task("regression")
    for seed in range(2 * EVERY):
        rows = one.prepare("a", blobs([0] * 4, seed), labels_of("regression", 4, seed))
        one.step([replace(rows, origin=np.zeros(4, np.int32))])
        for parameter in parts(one).model.parameters():
            parameter.detach().fill_(float("nan"))
    assert one.senders()["a"][0] == {"score": 0.0, "rows": 8, "beside": None}


def test_a_head_that_grows_while_rows_wait_loses_none_of_them() -> None:
    one = one_task()
    for seed in range(3 * EVERY):
        classes = [row % (3 + seed // EVERY) for row in range(BATCH)]
        rows = one.prepare("a", blobs(classes, seed), classes)
        one.step([replace(rows, origin=np.zeros(BATCH, np.int32))])
    assert one.senders()["a"][0]["rows"] == 3 * BATCH


@pytest.mark.parametrize("kind", ["classification", "regression", "multilabel"])
def test_a_run_that_was_interrupted_counts_as_one_that_was_not(kind: str) -> None:
    def play(one: Engine, first: int, last: int) -> None:
        for seed in range(first, last):
            rows = one.prepare("a", blobs([0] * BATCH, seed), labels_of(kind, BATCH, seed))
            one.step([replace(rows, origin=np.arange(BATCH, dtype=np.int32) % 3)])

    whole, first = one_task(kind), one_task(kind)
    play(whole, 0, 90)
    play(first, 0, 50)
    again = loaded(saved(first))
    assert again.senders() == first.senders()
    play(again, 50, 90)
    assert differences(whole, again) == []
    assert again.senders() == whole.senders()


def test_asking_and_saving_change_nothing_that_is_counted() -> None:
    asked, quiet = one_task(), one_task()
    for seed in range(60):
        for one in (asked, quiet):
            sent(one, [GOOD, BAD] * (BATCH // 2), seed)
        asked.senders()
        saved(asked)
    assert differences(asked, quiet) == []


def test_a_state_from_before_there_were_senders_is_taken_over() -> None:
    one = one_task()
    steps(one, 8)
    old = saved(one)
    del old.meta["senders"]
    assert loaded(old).senders() == {}


def test_a_removed_task_is_forgotten() -> None:
    one = one_task()
    one.add_task(task("b"))
    steps(one, EVERY)
    sent(one, [GOOD] * BATCH, 50, name="b")
    one.remove_task("a")
    assert "a" not in one.senders()
    assert not any(name.startswith("senders.a") for name in one.state_dict().tensors)


# -- who is named ------------------------------------------------------------------------------------------


def told(score: float, rows: int, other_score: float, other_rows: int, slices: int = 8) -> Json:
    """A sender's part of a report, all of whose rows stand beside others'."""
    beside = {
        "slices": slices, "rows": rows, "score": score, "other_rows": other_rows, "other_score": other_score
    }  # fmt: skip
    return {"score": score, "rows": rows, "beside": beside}


def two(a: tuple[float, int], b: tuple[float, int], slices: int = 8) -> dict[str, Json]:
    return {"a": told(*a, *b, slices), "b": told(*b, *a, slices)}


def test_a_bad_sender_beside_a_good_one_is_named_and_the_good_one_is_not() -> None:
    assert suspects(two((0.9, 800), (0.2, 60))) == ["b"]


@pytest.mark.parametrize(
    ("a", "b", "slices"),
    [
        ((0.9, 800), (0.2, 49), 8),  # too few of its rows
        ((0.9, 49), (0.2, 800), 8),  # too few of the others
        ((0.9, 800), (0.75, 800), 8),  # sure, but not far enough below
        ((0.6, 60), (0.35, 60), 8),  # far enough, but not sure
        ((0.9, 800), (0.2, 800), 2),  # not for long enough
    ],
)
def test_nobody_is_named_without_rows_difference_and_certainty(
    a: tuple[float, int], b: tuple[float, int], slices: int
) -> None:
    assert suspects(two(a, b, slices)) == []


def test_an_only_sender_is_named_only_where_the_caller_says_that_something_is_wrong() -> None:
    alone: dict[str, Json] = {"a": {"score": 0.1, "rows": 500, "beside": None}}
    assert suspects(alone) == []
    assert suspects(alone, alone=True) == ["a"]
    assert suspects({"a": {"score": 0.1, "rows": 49, "beside": None}}, alone=True) == []
    assert suspects({}) == suspects({}, alone=True) == []


def test_of_equal_senders_none_is_named_in_ten_thousand_trials() -> None:
    draw = np.random.default_rng(0)
    for _ in range(10_000):
        n, m = draw.integers(50, 1000, 2).tolist()
        p = draw.uniform(0.05, 0.99)
        a, b = draw.binomial([n, m], p) / [n, m]
        assert suspects(two((float(a), n), (float(b), m))) == []
