"""The buffer: what a draw chooses, how capacity is divided, and which segments a row touches."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl_engine import replay_table
from mtl_engine.columns import folder_of
from mtl_engine.errors import EngineError
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
    replay.offer(step, rows, owner_B, target.y.astype(np.int64))


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


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_a_draw_is_stratified_by_task_and_class_in_every_phase(policy: type) -> None:
    """Row i of n comes from the i-th of n equal parts of the ordered memory, also while groups fill and rotate."""
    replay = buffer(90, policy)
    replay.arrange({"t": ["a", "b"]})
    for step in range(60):
        task, owner = (("a", 1), ("b", 2))[step // 3 % 2]
        y = np.arange(7) % (1 + step // 10)
        offered(replay, rows_of("t", task, y, first=7 * step), owner, step=step)
        table = replay.tables["t"]
        held = {owner: np.flatnonzero(table.allocation.owners() == owner) for owner in (1, 2)}
        for _ in range(2):  # of a fresh choice, and of a block of steps
            slots = replay.draw(step, 40, lambda: EQUAL)["t"]
        owners = table.allocation.owners()[slots]
        tasks = sum(len(slot_N) > 0 for slot_N in held.values())
        for number, slot_N in held.items():
            wanted = 40 / tasks if len(slot_N) else 0
            assert abs(int((owners == number).sum()) - wanted) <= 1
        if policy is Balanced:
            group_M = table.slots.groups()
            for number, slot_N in held.items():
                for group in np.unique(group_M[slot_N]):
                    share = np.count_nonzero(group_M == group) / max(len(slot_N), 1)
                    found = np.count_nonzero(group_M[slots] == group)
                    assert abs(found - 40 / tasks * share) <= 2, (number, group)


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_every_row_is_drawn_equally_often_while_rows_come_and_go(policy: type) -> None:
    replay = buffer(24, policy)
    replay.arrange({"t": ["a", "b"]})
    offered(replay, rows_of("t", "a", np.arange(30) % 3), 1)
    offered(replay, rows_of("t", "b", np.arange(30) % 2, first=100), 2, step=2)
    table = replay.tables["t"]
    owner_M = table.allocation.owners()
    counts = np.zeros(24)
    for step in range(3000):
        counts += np.bincount(replay.draw(step, 8, lambda: EQUAL)["t"], minlength=24)
    for number in (1, 2):
        mine = counts[owner_M == number]
        assert np.allclose(mine, 3000 * 4 / len(mine), rtol=0.12)


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
@pytest.mark.parametrize("kind", ["image", "text", "logits"])
def test_a_row_costs_its_source_and_at_most_64_bytes(policy: type, kind: str) -> None:
    """Every array of the table and of its slots is counted; groups and tasks cost little and not a row."""
    replay, n = buffer(5000, policy), 5000
    replay.arrange({"t": ["a"]})
    x = np.zeros((n, 300) if kind == "text" else (n, 28, 28), np.uint8)
    length = np.full(n, 300, np.int32) if kind == "text" else None
    y = (np.arange(n) % 10).astype(np.int32)
    weight = np.linspace(0.1, 1, n, dtype=np.float32)  # the most that labels can cost
    rows = Rows("t", x, length, {"a": Target(y, weight)})
    outputs = {}
    if kind == "logits":
        z = torch.zeros((n, 10), dtype=torch.float16)
        outputs = {"a": replay_table.Outputs(z, np.full(n, 10, np.int32))}
    replay.offer(1, rows, np.ones(n, np.int64), y.astype(np.int64), taking(outputs))
    table = replay.tables["t"]
    assert table.num_rows == n
    source = x[0].nbytes + (20 if kind == "logits" else 0)
    assert table.num_bytes + _book_keeping(table) <= n * (source + 64)
    assert table.num_bytes + _book_keeping(table) > n * source


def taking(outputs: dict[str, replay_table.Outputs]) -> replay_table.Fresh:
    """Outputs of all offered rows, of which a table takes those that it keeps."""
    return lambda row_N: {
        name: replay_table.Outputs(of.z[torch.from_numpy(row_N)], of.width[row_N])
        for name, of in outputs.items()
    }


def _book_keeping(table: replay_table.ReplayTable) -> int:
    parts = (table, table.allocation, table.allocation.slots, table.allocation.strata)
    arrays = [value for part in parts if part is not None for value in vars(part).values()]
    return sum(value.nbytes for value in arrays if isinstance(value, np.ndarray))


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_columns_in_files_hold_bit_for_bit_what_columns_in_memory_hold(
    policy: type, tmp_path: Path
) -> None:
    replays = [Replay(50, policy, 5, torch.device("cpu"), folder) for folder in (None, tmp_path)]
    for replay in replays:
        replay.arrange({"t": ["a", "b"]})
    for step in range(30):
        if step in (12, 20):
            for replay in replays:
                replay.arrange({"t": ["a", "b"], **({"u": ["c"]} if step == 12 else {})})
        task, owner = (("a", 1), ("b", 2))[step // 4 % 2]
        rows = rows_of("t", task, np.arange(9) % (1 + step // 5), first=9 * step)
        z = torch.arange(9 * (2 + step // 8)).reshape(9, -1).to(torch.float16)
        outputs = {task: replay_table.Outputs(z, np.full(9, z.shape[1], np.int32))}
        y = rows.targets[task].y.astype(np.int64)
        for replay in replays:
            replay.offer(step, rows, np.full(9, owner, np.int64), y, taking(outputs))
        draws = [replay.draw(step, 16, lambda: EQUAL)["t"] for replay in replays]
        np.testing.assert_array_equal(*draws)
        _same_segments(*replays)
    assert not list(tmp_path.iterdir()), "a file with a name would outlive a kill"


def _same_segments(one: Replay, other: Replay) -> None:
    here, there = one.segments(), other.segments()
    assert here.keys() == there.keys()
    for name, (_, columns) in here.items():
        for key, value in columns.items():
            assert torch.equal(value, there[name][1][key]), (name, key)


def test_a_folder_without_room_is_refused_before_any_row_is_lost(tmp_path: Path) -> None:
    replay = Replay(1_000_000, Balanced, 5, torch.device("cpu"), tmp_path)
    replay.arrange({"t": ["a"]})
    rows = Rows("t", np.zeros((1, 1 << 25), np.uint8), None, {"a": Target(np.zeros(1, np.int32))})
    with pytest.raises(EngineError, match=r"no room for .* make buffer_rows smaller"):
        offered(replay, rows, 1)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EngineError, match=r"buffer_dir .* cannot be written"):
        folder_of(tmp_path / "file" / "below")


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_segments_that_did_not_change_since_a_column_came_still_restore_the_table(
    policy: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a checkpoint does it: segments whose version did not move are taken as they were written before."""
    monkeypatch.setattr(replay_table, "SEGMENT_BYTES", 10 * (64 + 4))
    replay = buffer(40, policy)
    replay.arrange({"t": ["a", "b"]})
    stored: dict[str, tuple[int, dict[str, torch.Tensor]]] = {}
    linked = 0
    for step in range(24):
        task, owner = ("a", 1) if step < 8 else ("b", 2)
        y = np.full(2, step % 3, np.int32)
        weight = np.array([1.0, 0.5 if step > 15 else 1.0], np.float32)
        x = np.full((2, 1), step, np.float32)
        z = torch.full((2, 1 + step // 4), float(step), dtype=torch.float16)
        rows = Rows("t", x, None, {task: Target(y, weight)})
        outputs = {task: replay_table.Outputs(z, np.full(2, z.shape[1], np.int32))}
        replay.offer(step, rows, np.full(2, owner, np.int64), y.astype(np.int64), taking(outputs))
        live = replay.segments()
        linked += sum(name in stored and stored[name][0] == live[name][0] for name in live)
        stored = {
            name: stored[name]
            if name in stored and stored[name][0] == version
            else (version, {key: value.clone() for key, value in columns.items()})
            for name, (version, columns) in live.items()
        }
        meta, arrays = replay.state()
        restored = buffer(40, policy)
        restored.load_state(
            json.loads(json.dumps(meta)),
            {name: value.copy() for name, value in arrays.items()},
            {name: columns for name, (_, columns) in stored.items()},
        )
        _same_segments(replay, restored)
        draws = [one.draw(step, 8, lambda: EQUAL)["t"] for one in (replay, restored)]
        np.testing.assert_array_equal(*draws)
    assert linked > 40


def test_a_table_made_anew_is_never_taken_for_the_one_before_it() -> None:
    replay = buffer(8)
    seen: set[int] = set()
    for _ in range(3):
        replay.arrange({"t": ["a"]})
        offered(replay, rows_of("t", "a", np.zeros(3)), 1)
        versions = {version for version, _ in replay.segments().values()}
        assert not versions & seen
        seen |= versions
        replay.arrange({})
