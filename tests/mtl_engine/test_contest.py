"""A model against a published rival on the hold-outs of the rival's time: only what both can answer counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from tests.support.engines import WIDTH, blobs, differences, engine, task

if TYPE_CHECKING:
    from pathlib import Path

    from mtl_engine.engine import Engine

ROWS = 20  # held out of each class


def taught(
    one: Engine, name: str, classes: list[int], rounds: int = 25, said: list[int] | None = None
) -> Engine:
    """Train on rows of these classes, labelled as what they are or as what is `said` of them."""
    for seed in range(rounds):
        one.observe(name, blobs(classes * 4, seed), (said or classes) * 4)
    return one


def hold(one: Engine, name: str, classes: list[int], said: list[int] | None = None) -> None:
    """Hold out rows of these classes."""
    one.hold_out(name, blobs(classes * ROWS, 99), (said or classes) * ROWS)


def made(*names: str, **more: Any) -> Engine:
    one = engine("finetune", **more)
    for name in names:
        one.add_task(task(name))
    return one


def published(one: Engine, path: Path) -> Path:
    one.snapshot(path / "rival")
    return path / "rival"


def test_both_are_scored_on_the_same_rows(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1, 2])
    hold(one, "a", [0, 1, 2])
    rival = published(one, tmp_path)
    assert one.contest(rival) == {"a": {"score": 1.0, "rival": 1.0, "rows": 3 * ROWS}}
    taught(one, "a", [0, 1, 2], said=[1, 2, 0])
    found = one.contest(rival)["a"]
    assert (found["score"], found["rival"]) == (0.0, 1.0)


def test_rows_kept_after_the_rival_was_published_say_nothing(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], said=[1, 0])
    hold(one, "a", [0, 1], said=[1, 0])
    assert one.score()["rows"] == {"a": 4 * ROWS}
    found = one.contest(rival)["a"]
    assert found["rows"] == 2 * ROWS
    assert (found["score"], found["rival"]) == (0.0, 1.0)


def test_a_task_whose_rows_all_came_later_is_left_out(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], 1)
    hold(one, "a", [0, 1])
    assert one.contest(rival) == {}


def test_classes_that_the_rival_does_not_know_are_left_out_of_both_answers(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    hold(one, "a", [0, 1])
    rival = published(one, tmp_path)
    taught(one, "a", [0, 1], said=[2, 3])  # the same rows have finer labels now
    assert one.evaluate_held_out()["a"]["accuracy"] == 0.0
    found = one.contest(rival)["a"]
    assert (found["score"], found["rival"]) == (1.0, 1.0), "a 0 or a 1, it still knows which"


def test_labels_that_the_rival_met_in_another_order_are_matched_by_name(tmp_path: Path) -> None:
    rival = taught(made("a"), "a", [2, 0, 1])
    path = published(rival, tmp_path)
    one = made("a")
    hold(one, "a", [0, 1, 2])
    taught(one, "a", [0, 1, 2])
    orders = [each.predict_proba("a", blobs([2])).argmax() for each in (rival, one)]
    assert orders == [0, 2], "the column of a 2"
    assert one.contest(path) == {"a": {"score": 1.0, "rival": 1.0, "rows": 3 * ROWS}}


def test_tasks_that_only_one_of_them_has_or_knows_are_left_out(tmp_path: Path) -> None:
    theirs = made("both", "gone", "untaught")
    for name in ("both", "gone"):
        taught(theirs, name, [0, 1])
    path = published(theirs, tmp_path)
    one = made("both", "new", "untaught")
    for name in ("both", "new", "untaught"):
        hold(one, name, [0, 1])
        taught(one, name, [0, 1])
    assert one.contest(path).keys() == {"both"}


def test_a_task_of_the_same_name_and_another_kind_is_left_out(tmp_path: Path) -> None:
    path = published(taught(made("a"), "a", [0, 1]), tmp_path)
    one = engine("finetune")
    one.add_task(task("a", "multilabel"))
    one.hold_out("a", blobs([0] * 8), np.ones((8, 2), np.uint8))
    one.observe("a", blobs([0] * 8), np.ones((8, 2), np.uint8))
    assert one.contest(path) == {}


def test_a_task_declared_anew_with_other_rows_is_left_out(tmp_path: Path) -> None:
    one = taught(made("a"), "a", [0, 1])
    rival = published(one, tmp_path)
    one.remove_task("a")
    one.add_task(task("a"))
    wider = np.zeros((8, WIDTH + 2), np.float32)
    one.hold_out("a", wider, [0, 1] * 4)  # at the very step at which the rival was published
    one.observe("a", wider, [0, 1] * 4)
    assert one.contest(rival) == {}


@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_a_task_declared_anew_with_other_targets_is_left_out(tmp_path: Path, kind: str) -> None:
    one = engine("finetune")
    one.add_task(task("a", kind))
    x = blobs([0, 1] * 8)
    one.observe("a", x, np.ones((16, 2), np.uint8))
    rival = published(one, tmp_path)
    one.remove_task("a")
    one.add_task(task("a", kind, targets=3))
    one.hold_out("a", x, np.ones((16, 3), np.uint8))
    one.observe("a", x, np.ones((16, 3), np.uint8))
    assert one.contest(rival) == {}


def test_regression_is_compared_in_its_own_units_however_the_statistics_moved(
    tmp_path: Path,
) -> None:
    one = engine("finetune", optimizer={"name": "adamw", "lr": 0.01})
    one.add_task(task("a", "regression"))
    x = blobs([0, 1, 2, 3] * 8)
    y = np.stack([x[:, 0], 100 + 10 * x[:, 1]], 1)
    for _ in range(150):
        one.observe("a", x, y)
    one.hold_out("a", x, y)
    rival = published(one, tmp_path)
    known = one.evaluate_held_out()["a"]["r2"]
    assert known is not None
    assert known > 0.9
    for _ in range(30):
        one.observe("a", x, 1000 - 5 * y)
    found = one.contest(rival)["a"]
    assert found["rival"] == pytest.approx(known, abs=1e-4)
    assert found["score"] < 0.0


def test_multilabel_is_compared_by_its_f1(tmp_path: Path) -> None:
    one = engine("finetune", optimizer={"name": "adamw", "lr": 0.02})
    one.add_task(task("a", "multilabel"))
    x = blobs([0, 1, 2, 3] * 8)
    y = (x[:, :2] > 0).astype(np.uint8)
    for _ in range(60):
        one.observe("a", x, y)
    one.hold_out("a", x, y)
    rival = published(one, tmp_path)
    known = one.evaluate_held_out()["a"]["f1"]
    for _ in range(60):
        one.observe("a", x, 1 - y)
    found = one.contest(rival)["a"]
    assert found["rival"] == known
    assert known is not None
    assert found["score"] < 0.2 < 0.9 < known


def test_a_contest_changes_no_state(tmp_path: Path) -> None:
    one, other = (taught(made("a"), "a", [0, 1]) for _ in range(2))
    for each in (one, other):
        hold(each, "a", [0, 1])
    one.contest(published(one, tmp_path))
    assert differences(one, other) == []
