"""The buffer: what a draw chooses, how capacity is divided, and which segments a row touches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtl_engine import replay_table
from mtl_engine.policies.balanced import Balanced
from mtl_engine.policies.reservoir import Reservoir
from mtl_engine.replay import Replay
from mtl_engine.types import Rows, Target

EQUAL = {1: (1.0, 0.0), 2: (1.0, 0.0)}


def buffer(rows: int = 40, policy: type = Balanced) -> Replay:
    return Replay(rows, policy, 5, torch.device("cpu"))


def rows_of(table: str, task: str, y: np.ndarray, first: int = 0) -> Rows:
    """Rows whose one feature is their number."""
    x = np.arange(first, first + len(y), dtype=np.float32)[:, None]
    return Rows(table, x, None, {task: Target(y.astype(np.int32))})


def offered(replay: Replay, rows: Rows, owner: int, step: int = 1) -> None:
    (target,) = rows.targets.values()
    owner_B = np.full(len(rows), owner, np.int64)
    replay.offer(step, rows, owner_B, target.y.astype(np.int64), {})


def two_tasks(rare: int = 2, frequent: int = 30) -> Replay:
    replay = buffer(60)
    replay.arrange({"t": ["a", "b"]})
    offered(replay, rows_of("t", "a", np.zeros(frequent)), 1)
    offered(replay, rows_of("t", "b", np.zeros(rare), first=100), 2, step=2)
    return replay


def drawn_owners(replay: Replay, shares: dict[int, tuple[float, float]], n: int = 40) -> np.ndarray:
    slots = replay.draw(9, n, lambda: shares)["t"]
    return replay.tables["t"].allocation.owners()[slots]


def test_an_empty_buffer_gives_nothing() -> None:
    replay = buffer()
    replay.arrange({"t": ["a"]})
    assert replay.draw(1, 8, lambda: EQUAL) == {}


def test_a_rare_task_is_drawn_as_often_as_a_frequent_one() -> None:
    owners = drawn_owners(two_tasks(), EQUAL)
    assert np.count_nonzero(owners == 1) == np.count_nonzero(owners == 2) == 20


@pytest.mark.parametrize(
    ("shares", "wanted"),
    [
        ({1: (3.0, 0.0), 2: (1.0, 0.0)}, 30),
        ({1: (0.0, 0.0), 2: (1.0, 0.0)}, 0),
        ({1: (0.0, 0.0), 2: (0.0, 0.0)}, 20),
        ({1: (1.0, 0.0), 2: (99.0, 0.0)}, 0),
        ({1: (1.0, 0.25), 2: (99.0, 0.0)}, 10),
        ({1: (1.0, 1.0), 2: (1.0, 1.0)}, 20),
    ],
)
def test_shares_and_their_minimum_decide_how_many_rows_a_task_gets(
    shares: dict[int, tuple[float, float]], wanted: int
) -> None:
    found = np.count_nonzero(drawn_owners(two_tasks(), shares) == 1)
    assert abs(found - wanted) <= 1


def test_every_kept_row_is_drawn_equally_often_over_many_steps() -> None:
    replay = buffer(10)
    replay.arrange({"t": ["a"]})
    offered(replay, rows_of("t", "a", np.zeros(10)), 1)
    counts = np.zeros(10)
    for step in range(2000):
        counts += np.bincount(replay.draw(step, 3, lambda: EQUAL)["t"], minlength=10)
    assert np.allclose(counts, 600, atol=90)


def test_a_draw_holds_every_class_as_often_as_the_memory_does() -> None:
    replay = buffer(40)
    replay.arrange({"t": ["a"]})
    offered(replay, rows_of("t", "a", np.arange(40) % 4), 1)
    slots = replay.draw(3, 16, lambda: EQUAL)["t"]
    counts = np.bincount(replay.tables["t"].targets["a"].y[slots], minlength=4)
    assert counts.tolist() == [4, 4, 4, 4]


def test_the_same_step_draws_the_same_rows_and_another_step_others() -> None:
    replay = two_tasks()
    first, again, other = (replay.draw(step, 20, lambda: EQUAL)["t"] for step in (4, 4, 5))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_capacity_is_divided_by_tasks_and_moves_only_when_they_change() -> None:
    replay = buffer(30)
    replay.arrange({"t": ["a", "b"], "u": ["c"]})
    assert {name: table.capacity for name, table in replay.tables.items()} == {"t": 20, "u": 10}
    replay.arrange({"t": ["a", "b"], "u": ["c"], "v": ["d"]})
    assert sum(table.capacity for table in replay.tables.values()) == 30
    replay.arrange({"u": ["c"]})
    assert {name: table.capacity for name, table in replay.tables.items()} == {"u": 30}


def test_rows_survive_a_move_of_capacity_with_their_labels() -> None:
    replay = buffer(40)
    replay.arrange({"t": ["a"]})
    offered(replay, rows_of("t", "a", np.arange(40) % 4), 1)
    replay.arrange({"t": ["a"], "u": ["c"]})
    replay.arrange({"t": ["a"]})
    table = replay.tables["t"]
    kept = table.slots.used()
    assert len(kept) == 20
    assert table.x is not None
    assert np.array_equal(table.targets["a"].y[kept], table.x[kept, 0].numpy().astype(int) % 4)


def test_a_removed_task_leaves_no_row_behind_and_the_others_keep_theirs() -> None:
    replay = two_tasks(rare=5)
    replay.remove_task("a", 1)
    assert replay.counts() == {2: 5}
    assert set(replay.tables["t"].targets) == {"b"}
    offered(replay, rows_of("t", "b", np.zeros(60), first=200), 2, step=3)
    assert replay.counts() == {2: 60}


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_a_row_belongs_to_the_task_that_it_was_kept_for(policy: type) -> None:
    replay = buffer(8, policy)
    replay.arrange({"t": ["a", "b"]})
    for step in range(20):
        offered(replay, rows_of("t", "a", np.zeros(3), first=0), 1, step=2 * step)
        offered(replay, rows_of("t", "b", np.zeros(3), first=100), 2, step=2 * step + 1)
    table = replay.tables["t"]
    assert table.x is not None
    used = table.slots.used()
    assert np.array_equal(table.allocation.owners()[used] == 2, table.x[used, 0].numpy() >= 100)
    assert np.array_equal(
        table.targets["a"].take(used).ones() > 0, table.allocation.owners()[used] == 1
    )


def test_only_segments_with_a_changed_row_get_a_new_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_table, "SEGMENT_BYTES", 10 * (64 + 4))
    replay = buffer(40)
    replay.arrange({"t": ["a"]})
    offered(replay, rows_of("t", "a", np.zeros(3)), 1)
    before = {name: version for name, (version, _) in replay.segments().items()}
    offered(replay, rows_of("t", "a", np.zeros(4), first=10), 1, step=2)
    after = replay.segments()
    assert [name for name in after if after[name][0] != before[name]] == ["t.0"]
    assert [len(after[f"t.{k}"][1]["x"]) for k in range(4)] == [10, 10, 10, 10]
    unchanged = {name: version for name, (version, _) in after.items()}
    replay.draw(3, 4, lambda: EQUAL)
    assert unchanged == {name: version for name, (version, _) in replay.segments().items()}


def test_inputs_are_kept_in_the_dtype_they_came_in() -> None:
    replay = buffer(4)
    replay.arrange({"t": ["a"]})
    x = np.full((2, 2, 2), 200, np.uint8)
    rows = Rows("t", x, None, {"a": Target(np.zeros(2, np.int32))})
    offered(replay, rows, 1)
    assert replay.tables["t"].x is not None
    assert replay.tables["t"].x.dtype == torch.uint8
