"""Rows frozen with a model: later ones are compared with it row by row, by what it knew then, however far the stream has gone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from mtl_engine.frozen import FrozenTask
from mtl_engine.types import TaskSpec
from tests.support.engines import WIDTH, blobs, differences, engine, parts, task

if TYPE_CHECKING:
    from pathlib import Path

    from mtl_engine.engine import Engine
    from mtl_engine.paired import Paired

ROWS = 20  # held out of each class


def taught(
    one: Engine, name: str, classes: list[int], rounds: int = 25, said: list[int] | None = None
) -> Engine:
    """Train on rows of these classes, labelled as what they are or as what is `said` of them."""
    for seed in range(rounds):
        one.observe(name, blobs(classes * 4, seed), (said or classes) * 4)
    return one


def hold(
    one: Engine, name: str, classes: list[int], said: list[int] | None = None, seed: int = 99
) -> None:
    """Hold out rows of these classes."""
    one.hold_out(name, blobs(classes * ROWS, seed), (said or classes) * ROWS, kind="judge")


def made(*names: str, **more: Any) -> Engine:
    one = engine("finetune", **more)
    for name in names:
        one.add_task(task(name))
    return one


def published(one: Engine, path: Path) -> Path:
    one.snapshot(path / "rival")
    return path / "rival"


def met(one: Engine, frozen: dict[str, FrozenTask], name: str = "a") -> tuple[float, float, int]:
    """What it was, what it is, and on how many rows."""
    found = one.judge.meet(frozen)[name]
    return pytest.approx(found.was), pytest.approx(found.score), found.rows


def lost(one: Engine, frozen: dict[str, FrozenTask], name: str = "a") -> Paired:
    return one.judge.meet(frozen)[name]


# -- rows frozen at the time ------------------------------------------------------------------------------------


def test_a_model_meets_itself_without_a_loss() -> None:
    one = taught(made("a"), "a", [0, 1, 2])
    hold(one, "a", [0, 1, 2])
    found = lost(one, one.judge.freeze())
    assert (found.was, found.score, found.rows) == (1.0, 1.0, 3 * ROWS)
    assert (found.loss, found.low, found.chance) == (0.0, 0.0, 1.0)


def test_both_are_scored_on_the_rows_of_the_first_one_s_time() -> None:
    one = taught(made("a"), "a", [0, 1, 2])
    hold(one, "a", [0, 1, 2])
    frozen = one.judge.freeze()
    taught(one, "a", [0, 1, 2], said=[1, 2, 0])
    hold(one, "a", [0, 1, 2], said=[1, 2, 0], seed=98)
    found = lost(one, frozen)
    assert (found.was, found.score, found.rows) == (1.0, 0.0, 3 * ROWS)
    assert found.low > 0.9
    assert found.chance < 1e-15


def test_a_better_model_has_lost_nothing() -> None:
    one = taught(made("a"), "a", [0, 1, 2], said=[1, 2, 0])
    hold(one, "a", [0, 1, 2])
    frozen = one.judge.freeze()
    taught(one, "a", [0, 1, 2], 40)
    found = lost(one, frozen)
    assert (found.was, found.score, found.chance) == (0.0, 1.0, 1.0)
    assert found.low < 0


def test_frozen_rows_do_not_change_with_the_hold_outs() -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    frozen = one.judge.freeze()
    x, y = frozen["a"].rows.x.copy(), frozen["a"].target.y.copy()
    hold(one, "a", [0, 1], said=[1, 0])  # the same rows, and their new labels are wrong
    for seed in range(30):
        hold(one, "a", [0, 1], seed=seed)
    assert np.array_equal(frozen["a"].rows.x, x)
    assert np.array_equal(frozen["a"].target.y, y)
    assert lost(one, frozen).score == 1.0


def test_classes_that_came_later_are_no_answer_to_rows_of_before() -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    frozen = one.judge.freeze()
    taught(one, "a", [0, 1], said=[2, 3])  # the same rows have finer labels now
    assert one.evaluate_held_out()["a"]["accuracy"] == 0.0
    found = lost(one, frozen)
    assert (found.was, found.score) == (1.0, 1.0), "a 0 or a 1, it still knows which"


def test_a_row_of_a_class_that_was_never_trained_is_wrong_for_both() -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1, 5])
    frozen = one.judge.freeze()
    found = lost(one, frozen)
    assert (
        found.was
        == found.score
        == pytest.approx(1 - frozen["a"].weight_H[frozen["a"].target.y == 2].sum())
    )


def test_classes_weigh_as_in_the_stream_until_the_rows_were_frozen() -> None:
    one = made("a", buffer_rows=0)
    one.observe("a", blobs([0] * 60 + [1] * 20), [0] * 60 + [1] * 20)
    hold(one, "a", [0, 1])
    frozen = one.judge.freeze()
    of_zero = frozen["a"].weight_H[frozen["a"].target.y == 0].sum()
    assert of_zero == pytest.approx(80 / 120)
    one.observe("a", blobs([1] * 500), [1] * 500)
    found = lost(one, frozen)
    assert found.score == pytest.approx(1 - 80 / 120, abs=0.05), "a 0 counts as often as it did"


def test_where_a_class_is_rare_models_are_compared_by_macro_recall() -> None:
    one = made("a")
    one.observe("a", blobs([0] * 120 + [1] * 3), [0] * 120 + [1] * 3)
    taught(one, "a", [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    one.hold_out("a", blobs([0] * 300 + [1] * ROWS, 9), [0] * 300 + [1] * ROWS, kind="judge")
    frozen = one.judge.freeze()
    assert frozen["a"].metric == "macro_recall"
    assert lost(one, frozen).was > 0.9
    taught(one, "a", [0, 1], said=[0, 0])
    found = lost(one, frozen)
    assert found.score == pytest.approx(0.5, abs=0.05), (
        "half of the classes, though few of the rows"
    )
    taught(one, "a", [1], rounds=100)  # no class is rare any more
    assert parts(one).registry["a"].kind.verdict_metric() == "accuracy"
    assert lost(one, frozen).was == found.was, "the metric is that of the rows"


def test_tasks_without_rows_or_without_a_head_are_not_frozen() -> None:
    one = made("taught", "held", "both", "neither")
    for name in ("taught", "both"):
        taught(one, name, [0, 1], 2)
    for name in ("held", "both"):
        hold(one, name, [0, 1])
    assert one.judge.freeze().keys() == {"both"}


def test_a_task_that_was_removed_or_declared_anew_is_not_met() -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    frozen = one.judge.freeze()
    one.remove_task("a")
    assert one.judge.meet(frozen) == {}
    one.add_task(task("a"))
    assert one.judge.meet(frozen) == {}
    taught(one, "a", [0, 1])
    assert one.judge.meet(frozen) == {}


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "text"])
def test_frozen_rows_come_back_from_a_checkpoint(kind: str) -> None:
    one, x, y = engine("finetune"), blobs([0, 1, 2, 3] * 8), np.tile([[0, 1], [1, 1]], (16, 1))
    given: Any = x
    if kind == "text":
        one.add_task(TaskSpec("a", modality="text", max_bytes=8))
        given, y = ["rain", "sun"] * 16, np.tile([0, 1], 16)
    else:
        one.add_task(task("a", kind))
        y = y[:, 0] if kind == "classification" else y
    one.observe("a", given, y)
    one.hold_out("a", given, y, mask=[1] * 30 + [0] * 2, kind="judge")
    frozen = one.judge.freeze()
    arrays, meta = frozen["a"].to_arrays()
    again = FrozenTask.from_arrays(
        {name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(meta))
    )
    for _ in range(5):
        one.observe("a", given, y[::-1].copy())
    assert lost(one, {"a": again}) == lost(one, frozen)
    assert again.to_arrays()[1] == meta
    assert len(again) == len(frozen["a"])


def test_freezing_and_meeting_change_no_state(tmp_path: Path) -> None:
    one, other = (taught(made("a"), "a", [0, 1]) for _ in range(2))
    for each in (one, other):
        hold(each, "a", [0, 1])
    one.judge.meet(one.judge.freeze())
    one.judge.meet(one.judge.freeze_snapshot(published(one, tmp_path)))
    assert differences(one, other) == []


# -- rows for a snapshot that nothing was frozen with ----------------------------------------------------------


def test_a_snapshot_gets_the_rows_that_were_kept_up_to_its_step(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], said=[1, 0])
    hold(one, "a", [0, 1], said=[1, 0], seed=98)
    assert one.judge.score().rows == {"a": 4 * ROWS}
    assert met(one, one.judge.freeze_snapshot(rival)) == (1.0, 0.0, 2 * ROWS)


def test_a_row_whose_label_changed_since_says_nothing_of_a_snapshot(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], said=[1, 0])
    one.hold_out("a", blobs([0, 1] * ROWS, 99)[:10], [1, 0] * 5, kind="judge")
    assert met(one, one.judge.freeze_snapshot(rival)) == (1.0, 0.0, 2 * ROWS - 10)


def test_a_task_whose_rows_all_came_later_is_left_out(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], 1)
    hold(one, "a", [0, 1])
    assert one.judge.freeze_snapshot(rival) == {}


def test_what_a_snapshot_does_not_know_is_no_answer_to_its_rows(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], said=[2, 3])
    assert met(one, one.judge.freeze_snapshot(rival)) == (1.0, 1.0, 2 * ROWS)


def test_labels_that_a_snapshot_met_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    rival = taught(made("a"), "a", [2, 0, 1])
    path = published(rival, tmp_path)
    one = made("a")
    hold(one, "a", [0, 1, 2])
    taught(one, "a", [0, 1, 2])
    orders = [each.predict_proba("a", blobs([2])).argmax() for each in (rival, one)]
    assert orders == [0, 2], "the column of a 2"
    assert met(one, one.judge.freeze_snapshot(path)) == (1.0, 1.0, 3 * ROWS)


def test_tasks_that_only_one_of_them_has_or_knows_are_left_out(tmp_path: Path) -> None:
    theirs = made("both", "gone", "untaught")
    for name in ("both", "gone"):
        taught(theirs, name, [0, 1])
    path = published(theirs, tmp_path)
    one = made("both", "new", "untaught")
    for name in ("both", "new", "untaught"):
        hold(one, name, [0, 1])
        taught(one, name, [0, 1])
    assert one.judge.freeze_snapshot(path).keys() == {"both"}


def test_a_task_of_the_same_name_and_another_kind_is_left_out(tmp_path: Path) -> None:
    path = published(taught(made("a"), "a", [0, 1]), tmp_path)
    one = engine("finetune")
    one.add_task(task("a", "multilabel"))
    one.hold_out("a", blobs([0] * 8), np.ones((8, 2), np.uint8), kind="judge")
    one.observe("a", blobs([0] * 8), np.ones((8, 2), np.uint8))
    assert one.judge.freeze_snapshot(path) == {}


def test_a_task_declared_anew_with_other_rows_is_left_out(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    rival = published(one, tmp_path)
    one.remove_task("a")
    one.add_task(task("a"))
    wider = np.zeros((8, WIDTH + 2), np.float32)
    one.hold_out("a", wider, [0, 1] * 4, kind="judge")  # at the very step of the snapshot
    one.observe("a", wider, [0, 1] * 4)
    assert one.judge.freeze_snapshot(rival) == {}


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_a_task_declared_anew_with_other_targets_is_left_out(tmp_path: Path, kind: str) -> None:
    one = engine("finetune")
    one.add_task(task("a", kind))
    x = blobs([0, 1] * 8)
    one.observe("a", x, np.ones((16, 2), np.uint8))
    rival = published(one, tmp_path)
    one.remove_task("a")
    one.add_task(task("a", kind, targets=3))
    one.hold_out("a", x, np.ones((16, 3), np.uint8), kind="judge")
    one.observe("a", x, np.ones((16, 3), np.uint8))
    assert one.judge.freeze_snapshot(rival) == {}


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_regression_is_compared_in_its_own_units_however_the_statistics_moved(
    tmp_path: Path, by_snapshot: bool
) -> None:
    one = engine("finetune", optimizer={"name": "adamw", "lr": 0.01})
    one.add_task(task("a", "regression"))
    x = blobs([0, 1, 2, 3] * 8)
    y = np.stack([x[:, 0], 100 + 10 * x[:, 1]], 1)
    for _ in range(150):
        one.observe("a", x, y)
    one.hold_out("a", x, y, kind="judge")
    rival, frozen = published(one, tmp_path), one.judge.freeze()
    known = one.evaluate_held_out()["a"]["r2"]
    assert known is not None
    assert known > 0.9
    for _ in range(30):
        one.observe("a", x, 1000 - 5 * y)
    found = lost(one, one.judge.freeze_snapshot(rival) if by_snapshot else frozen)
    assert found.was == pytest.approx(known, abs=1e-4)
    assert found.score < 0.0


@pytest.mark.parametrize("by_snapshot", [False, True])
def test_multilabel_is_compared_by_its_f1(tmp_path: Path, by_snapshot: bool) -> None:
    one = engine("finetune", optimizer={"name": "adamw", "lr": 0.02})
    one.add_task(task("a", "multilabel"))
    x = blobs([0, 1, 2, 3] * 8)
    y = (x[:, :2] > 0).astype(np.uint8)
    for _ in range(20):
        one.observe("a", x, y)
    one.hold_out("a", x, y, kind="judge")
    rival, frozen = published(one, tmp_path), one.judge.freeze()
    known = one.evaluate_held_out()["a"]["f1"]
    for _ in range(60):
        one.observe("a", x, 1 - y)
    found = lost(one, one.judge.freeze_snapshot(rival) if by_snapshot else frozen)
    assert found.was == pytest.approx(known)
    assert found.score == pytest.approx(one.evaluate_held_out()["a"]["f1"])
    assert found.score < 0.2
