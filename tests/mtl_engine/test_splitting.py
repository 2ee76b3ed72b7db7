"""Which rows are held out: by content, the same for every task and copy, and large contents copy by copy."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mtl_engine.contents import Contents, fraction
from mtl_engine.heldout import HeldOut
from mtl_engine.splitting import Splitter
from mtl_engine.types import Rows, TaskSpec
from tests.support.splits import SALT, distinct, held_of, numbers, prepared, registry

if TYPE_CHECKING:
    from mtl_engine.registry import Registry

SALTS = [f"salt {number}" for number in range(100)]


def split(
    splitter: Splitter, of: Registry, task: str | None, x: np.ndarray, y: object = None
) -> np.ndarray:
    return splitter.split(prepared(of, task, x, y), "1-0")[0]


# -- by content ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [0.05, 0.3])
def test_the_part_held_out_is_the_part_asked_for(part: float) -> None:
    of = registry(numbers(holdout=part))
    held = split(Splitter(of, SALT), of, "a", distinct(20_000))
    assert abs(int(held.sum()) - 20_000 * part) < 4 * (20_000 * part * (1 - part)) ** 0.5


def test_nothing_is_held_out_where_no_task_asks_for_it() -> None:
    of = registry(numbers(holdout=0.0))
    assert not split(Splitter(of, SALT), of, "a", distinct(500)).any()


def test_a_row_falls_on_one_side_again_under_a_new_id_for_another_task_and_without_a_label() -> (
    None
):
    of = registry(numbers("a", holdout=0.3), numbers("b", holdout=0.3), numbers("c", holdout=0.0))
    x, splitter = distinct(300), Splitter(of, SALT)
    y = [0] * 300
    events = [
        prepared(of, "a", x, y), prepared(of, "a", x, y[::-1]), prepared(of, "a", x),
        prepared(of, "b", x, y), prepared(of, "c", x, y), prepared(of, None, x, {"a": y, "b": y}),
    ]  # fmt: skip
    first, *others = held_of(splitter, events)
    assert 60 < first.sum() < 120
    for held in others:
        assert np.array_equal(held, first)


def test_a_row_s_side_does_not_depend_on_the_rows_it_comes_with() -> None:
    of = registry(numbers(holdout=0.3))
    x = distinct(200)
    whole = split(Splitter(of, SALT), of, "a", x)
    other = Splitter(of, SALT)
    single = [split(other, of, "a", x[k : k + 1])[0] for k in reversed(range(200))]
    assert np.array_equal(single[::-1], whole)


def test_whoever_chooses_ids_or_places_chooses_nothing() -> None:
    """Ids of events do not enter, and the place of an entry only where a content is large: the log gives it."""
    of, x = registry(numbers(holdout=0.3)), distinct(200)
    rows = prepared(of, "a", x)
    splitter = Splitter(of, SALT)
    first = splitter.split(rows, "1-0")[0]
    assert all(np.array_equal(splitter.split(rows, f"7-{n}")[0], first) for n in range(19))


def test_rows_of_another_form_have_a_limit_of_their_own() -> None:
    of = registry(numbers("a", holdout=0.0), TaskSpec("t", modality="table", holdout=0.9))
    splitter, x = Splitter(of, SALT), distinct(300)
    assert split(splitter, of, "t", x).sum() > 200
    assert not split(splitter, of, "a", x).any()


def test_a_task_with_a_larger_holdout_takes_more_of_the_same_and_from_its_first_rows_on() -> None:
    of, x = registry(numbers("a", holdout=0.1)), distinct(400)
    splitter = Splitter(of, SALT)
    small = split(splitter, of, "a", x)
    of.add(numbers("b", holdout=0.4))
    assert np.array_equal(split(splitter, of, "a", x), small)
    large = split(splitter, of, "b", x)
    assert np.array_equal(split(splitter, of, "a", x), large)
    assert not (small & ~large).any()
    assert large.sum() > 2 * small.sum()


def test_what_a_retired_task_held_out_and_others_score_is_not_trained_on_later() -> None:
    of, x = registry(numbers("a", holdout=0.1), numbers("b", holdout=0.5)), distinct(200)
    splitter = Splitter(of, SALT)
    held_out = HeldOut(of, splitter, 0)
    both = prepared(of, None, x, {"a": [0] * 200, "b": [0] * 200})
    held, hash_B = splitter.split(both, "1-0")
    mine = np.flatnonzero(held)
    held_out.keep(both.take(mine), hash_B[mine], 1)
    held_out.place()
    of.remove("b")
    held_out.remove_task("b")
    scored = held_out.sample("a").rows.x
    assert len(scored) > 30
    assert split(splitter, of, "a", scored).all()
    fresh = split(splitter, of, "a", distinct(2000, seed=5))
    assert abs(int(fresh.sum()) - 200) < 60, (
        "other rows follow the limit of the tasks that are left"
    )


def test_what_only_another_task_held_out_stays_out_when_that_one_goes() -> None:
    of, x = registry(numbers("a", holdout=0.1), numbers("b", holdout=0.5)), distinct(200)
    splitter = Splitter(of, SALT)
    held_out = HeldOut(of, splitter, 0)
    prepared(of, "b", x, [0] * 200)
    rows = prepared(of, "a", x, [0] * 200)  # of a alone, held out by the limit of b
    held, hash_B = splitter.split(rows, "1-0")
    mine = np.flatnonzero(held)
    held_out.keep(rows.take(mine), hash_B[mine], 1)
    held_out.place()
    of.remove("b")
    held_out.remove_task("b")
    assert np.array_equal(split(splitter, of, "a", x), held)


# -- large contents --------------------------------------------------------------------------------------------


def small_table(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """6,000 rows of 18 different ones, of which one makes up 39 percent."""
    which = np.random.default_rng(seed).choice(18, 6000, p=[0.39, *[0.61 / 17] * 17])
    return which, distinct(18, seed=99)[which]


def events_of(of: Registry, task: str | None, x: np.ndarray, size: int = 60) -> list[Rows]:
    names = ["a", "b"] if task is None else [task]
    y = np.zeros(size, np.int64)
    return [
        prepared(of, task, x[start : start + size], y if task else dict.fromkeys(names, y))
        for start in range(0, len(x), size)
    ]


@pytest.mark.parametrize("part", [0.05, 0.2])
def test_few_rows_that_come_often_are_trained_and_scored_under_every_salt(part: float) -> None:
    of = registry(numbers(holdout=part))
    which, x = small_table(4)
    events = events_of(of, "a", x)
    for salt in SALTS:
        splitter = Splitter(of, salt)
        held = np.concatenate(held_of(splitter, events))
        assert len(splitter.large) == 18
        assert np.unique(which[~held]).size == 18, "each is trained on"
        assert abs(held.mean() - part) < 0.02
        later = held[2000:]
        assert abs(later.mean() - part) < 4 * (part * (1 - part) / 4000) ** 0.5
        assert later[which[2000:] == 0].any(), "and the largest is scored"


def test_every_task_of_a_row_has_hold_outs_of_both_kinds_under_every_salt() -> None:
    of = registry(numbers("a"), numbers("b"))
    events = events_of(of, None, small_table(5)[1])
    for salt in SALTS[:20]:
        splitter = Splitter(of, salt)
        held_out = HeldOut(of, splitter, 0)
        for place, rows in enumerate(events):
            held, hash_B = splitter.split(rows, f"{place}-0")
            held_out.keep(rows.take(np.flatnonzero(held)), hash_B[held], 1)
        for task in "ab":
            assert min(held_out.count(task, kind) for kind in ("judge", "select")) > 50


def test_a_large_content_is_drawn_by_the_place_of_each_copy_and_the_others_by_what_they_are() -> (
    None
):
    of = registry(numbers(holdout=0.3))
    splitter = Splitter(of, SALT)
    x = np.concatenate([np.zeros((40, 4), np.float32), distinct(60)])
    first, again = held_of(splitter, [prepared(of, "a", x)] * 2)
    assert np.array_equal(first[40:], again[40:])
    assert not np.array_equal(first[:40], again[:40])
    other = Splitter(of, SALT)
    assert np.array_equal(held_of(other, [prepared(of, "a", x)] * 2)[1], again), "of the log alone"
    _, hash_B = splitter.split(prepared(of, "a", x), "3-0")
    assert len(set(hash_B.tolist())) == 100, "each copy is held out by itself"


def test_a_content_is_large_for_all_tasks_once_it_is_for_one() -> None:
    of = registry(numbers("a", holdout=0.3), numbers("b", holdout=0.3))
    splitter, x = Splitter(of, SALT), np.zeros((30, 4), np.float32)
    assert len(set(split(splitter, of, "a", x).tolist())) == 2
    assert len(set(split(splitter, of, "b", x).tolist())) == 2


def test_unlabelled_copies_count_as_well() -> None:
    of = registry(numbers(holdout=0.3))
    splitter = Splitter(of, SALT)
    split(splitter, of, "a", np.zeros((30, 4), np.float32))
    assert len(splitter.large) == 1


def test_large_contents_are_few_however_long_the_stream_is() -> None:
    of, draw = registry(numbers()), np.random.default_rng(0)
    splitter, x = Splitter(of, SALT), distinct(400)
    weight = 1 / np.arange(1, 401)
    for place in range(200):
        rows = x[draw.choice(400, 64, p=weight / weight.sum())]
        splitter.split(prepared(of, "a", rows), f"{place}-0")
    assert 10 <= len(splitter.large) <= 30  # 15 come in over 1 percent of the rows


def test_a_settled_content_is_held_out_whatever_its_number_until_it_is_large() -> None:
    of, x = registry(numbers(holdout=0.1)), distinct(5)
    splitter = Splitter(of, SALT)
    rows = prepared(of, "a", x)
    splitter.settle(Contents(SALT).of_rows(rows, of.tables[rows.table]).tolist())
    assert split(splitter, of, "a", x).all()
    held = held_of(splitter, [rows] * 60)
    assert Counter(map(bool, np.concatenate(held[25:]))).most_common(1)[0][0] is False
    assert not splitter.settled


# -- state -----------------------------------------------------------------------------------------------------


def test_a_state_comes_back_and_goes_on_the_same_with_the_salt_it_was_made_under() -> None:
    of = registry(numbers("a"), numbers("b", holdout=0.2))
    events = events_of(of, None, small_table(6)[1][:3000])
    one, other = Splitter(of, SALT), Splitter(of, "another")
    held_of(one, events[:25])
    one.settle([5, -9])
    other.load_state(*one.state())
    for left, right in zip(*(held_of(each, events[25:]) for each in (one, other)), strict=True):
        assert np.array_equal(left, right)
    (meta, arrays), (meta_too, arrays_too) = one.state(), other.state()
    assert meta == meta_too
    assert meta["salt"] == SALT
    assert {k: v.tobytes() for k, v in arrays.items()} == {
        k: v.tobytes() for k, v in arrays_too.items()
    }


def test_a_removed_task_leaves_no_counts() -> None:
    of = registry(numbers("a"), numbers("b"))
    splitter = Splitter(of, SALT)
    split(splitter, of, "b", distinct(9))
    splitter.forget("b")
    splitter.forget("b")
    assert splitter.state()[0]["frequent"] == {}


def test_the_number_of_a_row_decides_and_nothing_else() -> None:
    of, x = registry(numbers(holdout=0.25)), distinct(300)
    rows = prepared(of, "a", x)
    u = fraction(Contents(SALT).of_rows(rows, of.tables[rows.table]))
    assert np.array_equal(split(Splitter(of, SALT), of, "a", x), u < 0.25)
