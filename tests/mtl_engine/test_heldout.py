"""Hold-outs: one copy a content with its newest label, two kinds that never meet, bounded, and the same after any checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine.columns import Place
from mtl_engine.contents import Contents
from mtl_engine.heldout import HELD_OUT_ROWS, KINDS, HeldOut
from mtl_engine.kept import CONTENT, Kept
from mtl_engine.policies.balanced import Balanced
from mtl_engine.replay_table import ReplayTable, no_outputs
from mtl_engine.types import Rows, Target, TaskSpec
from tests.support.splits import SALT, distinct, numbers, prepared, table

X = distinct(4000)


def keep(one: HeldOut, x: Any, y: Any, step: int = 0, mask: Any = None, task: str = "a") -> None:
    """Hold out these rows as their contents decide."""
    rows = prepared(one._registry, task, x, y, mask)  # pyright: ignore[reportPrivateUsage]
    hash_B = hashes(one, rows)
    one.keep(rows, hash_B, step)


def hashes(one: HeldOut, rows: Rows) -> np.ndarray:
    of = one._registry  # pyright: ignore[reportPrivateUsage]
    return Contents(SALT).of_rows(rows, of.tables[rows.table])


def kept(one: HeldOut, task: str = "a") -> dict[bytes, Any]:
    """The labels that are kept, by row."""
    found: dict[bytes, Any] = {}
    for kind in KINDS:
        if one.count(task, kind):
            sample = one.sample(task, kind)
            for x, y in zip(sample.rows.x, sample.target.y.tolist(), strict=True):
                assert x.tobytes() not in found, "a content is there twice"
                found[x.tobytes()] = y
    return found


def labels(one: HeldOut, x: np.ndarray, task: str = "a") -> list[Any]:
    """The label of each of these rows, None where it is not kept."""
    found = kept(one, task)
    return [found.get(row.tobytes()) for row in x]


def state(one: HeldOut) -> tuple[Any, dict[str, bytes]]:
    """All that is kept in a checkpoint, comparable."""
    meta, arrays = one.state()
    columns = {
        f"{name}/{column}": value.numpy().tobytes()
        for name, (_, values) in one.segments().items()
        for column, value in values.items()
    }
    return json.dumps(meta), {name: value.tobytes() for name, value in arrays.items()} | columns


def reloaded(one: HeldOut, into: HeldOut) -> HeldOut:
    """A new table that goes on from a checkpoint of the first."""
    meta, arrays = one.state()
    segments = {
        name: {column: value.clone() for column, value in values.items()}
        for name, (_, values) in one.segments().items()
    }
    copies = {name: value.copy() for name, value in arrays.items()}
    into._registry.load_state(*_registry_state(one))  # pyright: ignore[reportPrivateUsage]
    into.load_state(json.loads(json.dumps(meta)), copies, segments)
    return into


def _registry_state(one: HeldOut) -> tuple[Any, dict[str, Any]]:
    meta, arrays = one._registry.state()  # pyright: ignore[reportPrivateUsage]
    return json.loads(json.dumps(meta)), {name: value.copy() for name, value in arrays.items()}


# -- one copy with its newest label ----------------------------------------------------------------------------


def test_of_copies_one_is_kept_and_the_newest_label_counts() -> None:
    one = table()
    keep(one, X[:20], [0] * 20, 1)
    keep(one, X[:20], [1] * 10 + [0] * 10, 2)
    assert labels(one, X[:20]) == [1] * 10 + [0] * 10
    steps = np.concatenate([one.sample("a", kind).step_H for kind in KINDS])
    assert sorted(steps.tolist()) == [1] * 10 + [2] * 10


def test_a_label_may_change_to_and_fro_as_often_as_it_likes() -> None:
    one = table()
    keep(one, X[:40], [0, 1] * 20)
    for turn in range(9):
        keep(one, X[:3], [turn % 2] * 3, turn)
        assert labels(one, X[:3]) == [turn % 2] * 3
        assert len(kept(one)) == 40


def test_of_several_copies_in_one_event_the_last_counts() -> None:
    one = table()
    keep(one, X[[0, 1, 0, 1, 0]], [0, 0, 1, 2, 2])
    assert labels(one, X[:2]) == [2, 2]


def test_a_copy_that_says_the_same_changes_nothing() -> None:
    one = table()
    keep(one, X[:50], [0, 1] * 25, 3)
    before = state(one)
    keep(one, X[:50][::-1], [1, 0] * 25, 4)
    assert state(one) == before


def test_a_new_label_is_kept_even_where_its_class_is_full() -> None:
    one = table()
    keep(one, X[:2000], [0, 1] * 1000)
    mine = [row for row in range(2000) if labels(one, X[row : row + 1]) == [0]][:30]
    keep(one, X[mine], [1] * 30)
    assert labels(one, X[mine]) == [1] * 30
    assert max(one.count("a", kind) for kind in KINDS) <= HELD_OUT_ROWS


def test_a_copy_without_a_label_takes_none_away() -> None:
    one = table()
    keep(one, X[:9], [1] * 9)
    keep(one, X[:9], None)
    keep(one, X[:9], [2] * 9, mask=[0] * 9)
    keep(one, X[9:12], [0] * 3, mask=[1, 0, 1])
    assert labels(one, X[:12]) == [*[1] * 9, 0, None, 0]


@pytest.mark.parametrize(("kind", "first", "other"), [
    ("multilabel", [[0, 1], [1, 1]], [[0, 1], [1, 0]]),
    ("regression", [[0.5, 1.0], [2.0, 3.0]], [[0.5, 1.0], [2.0, 3.5]]),
])  # fmt: skip
def test_labels_of_several_columns_are_another_label_if_one_column_is(
    kind: str, first: Any, other: Any
) -> None:
    one = table(numbers(kind=kind, targets=2))
    keep(one, X[:2], first, 1)
    keep(one, X[:2], other, 2)
    assert labels(one, X[:2]) == other
    steps = [
        step for k in KINDS if one.count("a", k) for step in one.sample("a", k).step_H.tolist()
    ]
    assert sorted(steps) == [1, 2]
    keep(one, X[:1], other[:1], 3, mask=[[1, 0]])
    steps = [
        step for k in KINDS if one.count("a", k) for step in one.sample("a", k).step_H.tolist()
    ]
    assert sorted(steps) == [2, 3], "a label that is missing now is another label"


def test_texts_are_known_by_what_is_kept_of_them() -> None:
    one = table(TaskSpec("a", modality="text", max_bytes=8))
    keep(one, ["rain", "sun", "rain and", "rain and sun"], ["x", "x", "x", "y"])
    rows = [(sample.rows.length, sample.target.y) for kind in KINDS
            if one.count("a", kind) and (sample := one.sample("a", kind))]  # fmt: skip
    assert sum(len(y) for _, y in rows) == 3
    found = {
        (int(n), int(label))
        for length, y in rows
        if length is not None
        for n, label in zip(length, y, strict=True)
    }
    assert found == {(4, 0), (3, 0), (8, 1)}


# -- kinds -----------------------------------------------------------------------------------------------------


def test_the_kinds_have_no_row_in_common_and_each_about_half() -> None:
    one = table()
    keep(one, X[:400], [0, 1] * 200)
    rows = {kind: {x.tobytes() for x in one.sample("a", kind).rows.x} for kind in KINDS}
    assert not rows["judge"] & rows["select"]
    assert len(rows["judge"] | rows["select"]) == 400
    assert 150 < len(rows["judge"]) < 250


def test_a_content_is_of_one_kind_for_every_task() -> None:
    one = table()
    one._registry.add(numbers("b"))  # pyright: ignore[reportPrivateUsage]
    keep(one, X[:100], [0] * 100)
    keep(one, X[:100], [0] * 100, task="b")
    for kind in KINDS:
        mine, other = (one.sample(task, kind).content_H for task in "ab")
        assert set(mine.tolist()) == set(other.tolist())


def test_where_there_is_nothing_it_says_so() -> None:
    one = table()
    assert (one.count("a"), one.tasks) == (0, [])
    with pytest.raises(LookupError):
        one.sample("a")
    keep(one, X[:5], None)
    assert (one.count("a"), one.count("a", "select"), one.tasks) == (0, 0, [])


def test_a_row_is_known_by_its_content_whatever_its_label_is_now() -> None:
    one = table()
    keep(one, X[:60], [0, 1] * 30)
    before = one.sample("a")
    keep(one, X[:60], [0, 0, 1, 1] * 15)
    after = one.sample("a")
    assert set(after.content_H.tolist()) <= set(before.content_H.tolist())
    labels_of = dict(zip(before.content_H.tolist(), before.target.y.tolist(), strict=True))
    now = zip(after.content_H.tolist(), after.target.y.tolist(), strict=True)
    same = [labels_of[content] == label for content, label in now]
    assert 5 < sum(same) < len(same)


# -- bounds and balance ----------------------------------------------------------------------------------------


def stream(seed: int = 2, rows: int = 2400, contents: int = 700) -> tuple[np.ndarray, np.ndarray]:
    """Rows that come again, now and then under another label; classes from frequent to rare, one after the other."""
    draw = np.random.default_rng(seed)
    which = draw.integers(0, contents, rows)
    label_of = draw.choice(4, contents, p=[0.7, 0.2, 0.07, 0.03])
    y = np.where(draw.random(rows) < 0.15, draw.integers(0, 5, rows), label_of[which])
    y[:300] = np.minimum(y[:300], 1)  # so that classes appear while others are kept
    return X[which], y


def test_hold_outs_are_bounded_and_no_class_crowds_out_another() -> None:
    one = table()
    y = np.random.default_rng(2).choice(4, 4000, p=[0.7, 0.25, 0.04, 0.01])
    for start in range(0, 4000, 50):
        keep(one, X[start : start + 50], y[start : start + 50])
    for kind in KINDS:
        counts = np.bincount(one.sample("a", kind).target.y)
        assert counts.sum() <= HELD_OUT_ROWS
        assert counts.min() >= 10
        assert counts.max() <= HELD_OUT_ROWS // 4


def test_every_content_has_the_same_chance_to_be_kept_early_or_late() -> None:
    count = np.zeros(4)
    for seed in range(40):
        one = table(seed=seed)
        keep(one, X, [0] * 4000)
        found = kept(one)
        count += [sum(x.tobytes() in found for x in quarter) for quarter in np.split(X, 4)]
    assert count.sum() == 40 * 2 * HELD_OUT_ROWS
    assert (abs(count - 10_000) < 4 * (40 * 1000 * 0.25 * 0.75) ** 0.5).all()


def cut(rows: int, sizes: list[int]) -> Iterator[slice]:
    start, turn = 0, 0
    while start < rows:
        size = sizes[turn % len(sizes)]
        yield slice(start, min(start + size, rows))
        start, turn = start + size, turn + 1


@pytest.mark.parametrize("sizes", [[1], [7, 1, 500], [64], [2400]])
def test_hold_outs_do_not_depend_on_how_rows_are_cut_into_events(sizes: list[int]) -> None:
    x, y = stream()
    one, other = table(), table()
    for part in cut(len(x), sizes):
        keep(one, x[part], y[part])
    for part in cut(len(x), [90, 3]):
        keep(other, x[part], y[part])
    assert kept(one) == kept(other)
    assert sum(one.count("a", kind) for kind in KINDS) > 400


def test_what_is_kept_can_be_found_whatever_was_evicted_and_moved() -> None:
    x, y = stream(5)
    one = table()
    for part in cut(len(x), [40]):
        keep(one, x[part], y[part])
        for key, table_ in one.tables.items():
            found = one._kept_in(key)  # pyright: ignore[reportPrivateUsage]
            assert found.slot_of == Kept(table_).slot_of
            slot_H = table_.slots.used()
            content_H = table_.targets[CONTENT].take(slot_H).y.tolist()
            assert found.slot_of == dict(zip(content_H, slot_H.tolist(), strict=True))


# -- tasks and phases ------------------------------------------------------------------------------------------


def test_a_task_removed_and_added_again_begins_with_nothing() -> None:
    one = table()
    of = one._registry  # pyright: ignore[reportPrivateUsage]
    one.enter("a", "first")
    keep(one, X[:30], [0] * 30)
    one.place()
    of.remove("a")
    one.remove_task("a")
    assert (one.tasks, one.count("a"), one.phases) == ([], 0, {})
    of.add(numbers("a", kind="regression"))
    keep(one, distinct(20, 4, width=7), [1.5] * 20)
    assert sum(one.count("a", kind) for kind in KINDS) == 20
    assert one.part("a", 0) == "a"


def test_rows_belong_to_the_phase_they_came_in_and_later_labels_to_theirs() -> None:
    one = table()
    for number, phase in enumerate(["x", "y", "x"]):
        one.enter("a", phase)
        keep(one, X[number * 20 : number * 20 + 20], [0] * 20)
    keep(one, X[:5], [1] * 5)
    found = np.concatenate([one.sample("a", kind).phase_H for kind in KINDS])
    assert np.bincount(found).tolist() == [15, 20, 25]
    assert [one.part("a", number) for number in range(3)] == ["a/x", "a/y", "a/x"]


# -- state -----------------------------------------------------------------------------------------------------


def test_a_state_comes_back_to_the_bit_and_goes_on_to_the_bit() -> None:
    x, y = stream(7)
    one = table()
    one.enter("a", "first")
    parts = list(cut(len(x), [33]))
    for part in parts[:40]:
        keep(one, x[part], y[part], 5)
    other = reloaded(one, table(salt="another"))
    assert state(one) == state(other)
    for part in parts[40:]:
        for each in (one, other):
            keep(each, x[part], y[part], 6)
    assert state(one) == state(other)


def old_state(
    of: HeldOut, x: np.ndarray, y: np.ndarray
) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """What a version that held out by event ids saved: one table a task, without hashes of contents, copies and all."""
    registry = of._registry  # pyright: ignore[reportPrivateUsage]
    rows = prepared(registry, "a", x, y)
    phase = np.zeros(len(x), np.int32)
    marks = {**rows.targets, "@phase": Target(phase), "@step": Target(phase + 7)}
    old = ReplayTable("holdout:a", HELD_OUT_ROWS, Balanced(), 1, Place(torch.device("cpu")))
    owner = np.full(len(x), registry["a"].number, np.int64)
    uniform = np.random.default_rng(1).random(len(x))
    old.offer(Rows(rows.table, rows.x, None, marks), owner, y.astype(np.int64), uniform, no_outputs)
    meta, arrays = old.state()
    return (
        json.loads(json.dumps({"phases": {"a": ["first"]}, "tables": {"a": meta}})),
        {f"a.{name}": value for name, value in arrays.items()},
        {f"a.{name}": columns for name, (_, columns) in old.segments().items()},
    )


def test_hold_outs_of_a_state_of_before_stay_held_out_parted_by_the_same_bit() -> None:
    one = table()
    y = np.arange(900) % 3
    y[600:] = 0
    one.load_state(*old_state(one, X[:900], y))
    found = kept(one)
    assert 490 <= len(found) <= HELD_OUT_ROWS
    for kind in KINDS:
        sample = one.sample("a", kind)
        assert 200 < len(sample.content_H) < 300
        assert {sample.step_H.max(), sample.phase_H.max()} == {7, 0}
        assert np.array_equal(hashes(one, sample.rows), sample.content_H)
        assert (sample.content_H & 1 == KINDS.index(kind)).all()
    splitter = one._splitter  # pyright: ignore[reportPrivateUsage]
    of = one._registry  # pyright: ignore[reportPrivateUsage]
    x = np.stack([np.frombuffer(row, np.float32) for row in found])
    assert splitter.split(prepared(of, "a", x), "1-0")[0].all()
    held = splitter.split(prepared(of, "a", distinct(2000, 8)), "2-0")[0]
    assert 60 < held.sum() < 140, "others follow the rule of now"
    assert one.part("a", 0) == "a/first"


def test_what_became_of_an_old_state_is_a_state_of_now() -> None:
    one = table()
    one.load_state(*old_state(one, X[:300], np.arange(300) % 3))
    other = reloaded(one, table(salt="another"))
    assert state(one) == state(other)
    x, y = stream(9)
    for each in (one, other):
        keep(each, x, y)
    assert state(one) == state(other)


def test_copies_in_an_old_state_become_one_row() -> None:
    one = table()
    one.load_state(*old_state(one, X[:60][np.arange(180) % 60], np.arange(180) % 60 % 3))
    assert len(kept(one)) == 60


def test_a_class_that_came_often_before_is_not_taken_for_a_new_one() -> None:
    one = table()
    one.load_state(*old_state(one, X, np.arange(4000) % 3))
    for table_ in one.tables.values():
        assert table_.slots.seen_G.tolist() == [667, 666, 666], "half of what came, to each kind"
