"""What judges reads judge rows only: phases apart, select rows for choosing, the split of a stream, and chunks of tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from mtl_engine import evaluate
from mtl_engine.evaluate import outputs
from mtl_engine.judge import chunks
from tests.support.engines import blobs, differences, engine, loaded, parts, saved, task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from mtl_engine.engine import Engine
    from mtl_engine.model import Model
    from mtl_engine.types import Rows


def made(*names: str, **more: object) -> Engine:
    one = engine("finetune")
    for name in names:
        one.add_task(task(name, **more))
    return one


def streamed(one: Engine, events: int = 60, first: int = 0) -> Engine:
    """Rows of task a go the way of the daemon: split, and the rest is trained on."""
    for place in range(first, first + events):
        y = np.random.default_rng(place).integers(0, 4, 16)
        rows, _ = one.judge.split(one.prepare("a", blobs(y.tolist(), place), y), f"{place}-0")
        one.step([rows])
    return one


# -- the split -------------------------------------------------------------------------------------------------


def test_rows_that_are_held_out_are_kept_and_not_trained_on() -> None:
    one = made("a", holdout=0.3)
    one.observe("a", blobs([0] * 4), [0] * 4)
    rows = one.prepare("a", blobs([0, 1] * 50, 7), [0, 1] * 50)
    rest, held = one.judge.split(rows, "1-0")
    assert 15 < held < 45
    assert len(rest) + held == 100
    scored = one.judge.held_out.sample("a").rows.x
    chosen = one.judge.held_out.sample("a", "select")
    assert chosen is not None
    assert len(scored) + len(chosen.rows) == held
    out = {row.tobytes() for row in np.concatenate([scored, chosen.rows.x])}
    assert not out & {row.tobytes() for row in rest.x}
    assert one.judge.counts() == {"a": len(scored)}


def test_a_stream_without_hold_outs_passes_as_it_is() -> None:
    one = made("a", holdout=0.0)
    rows = one.prepare("a", blobs([0] * 9), [0] * 9)
    assert one.judge.split(rows, "1-0") == (rows, 0)
    assert not one.judge.held_out.count("a", "select")


def test_an_engine_goes_on_from_its_state_as_if_nothing_had_been() -> None:
    one = streamed(made("a", holdout=0.3))
    other = loaded(saved(one), "finetune", salt="another, which the state replaces")
    assert differences(one, other) == []
    for each in (one, other):
        streamed(each, first=60)
    assert differences(one, other) == []


def test_an_engine_goes_on_where_contents_are_large_and_labels_change() -> None:
    one = made("a", holdout=0.3)
    x = blobs([0, 1, 2, 3] * 8)

    def go_on(each: Engine, first: int) -> None:
        for place in range(first, first + 20):
            draw = np.random.default_rng(place)
            y = draw.integers(0, 4, 64)
            rows, _ = each.judge.split(
                each.prepare("a", np.concatenate([x, blobs([0] * 32, place)]), y), f"{place}-0"
            )
            each.step([rows])

    go_on(one, 0)
    assert one.judge.splitter.large
    other = loaded(saved(one), "finetune")
    for each in (one, other):
        go_on(each, 20)
    assert differences(one, other) == []


# -- select and judge ------------------------------------------------------------------------------------------


def choose(one: Engine, tries: int) -> float:
    """A knob that anything could be: a head climbs by random steps to what answers the select rows best. Returns its score there."""
    sample, kind = one.judge.held_out.sample("a", "select"), parts(one).registry["a"].kind
    assert sample is not None
    head = list(parts(one).model.heads.parameters())
    best, best_score = [p.detach().clone() for p in head], -1.0
    for number in range(tries):
        generator = torch.Generator().manual_seed(number)
        with torch.no_grad():
            for p, value in zip(head, best, strict=True):
                p.copy_(value + 0.3 * torch.randn(p.shape, generator=generator))
        score = kind.scores(outputs(parts(one).model, {}, "a", sample.rows), sample.target)
        assert score["accuracy"] is not None
        if score["accuracy"] > best_score:
            best, best_score = [p.detach().clone() for p in head], score["accuracy"]
    with torch.no_grad():
        for p, value in zip(head, best, strict=True):
            p.copy_(value)
    return best_score


def test_a_knob_that_overfits_the_select_rows_does_not_raise_the_score() -> None:
    """Labels are tosses, so nothing is above one half but by chance, and chance is what the knob collects."""
    chosen, judged = [], []
    for seed in range(6):
        one, draw = made("a"), np.random.default_rng(seed)
        one.observe("a", blobs([0, 1] * 4), [0, 1] * 4)
        x = draw.standard_normal((240, 6)).astype(np.float32)
        one.hold_out("a", x, draw.integers(0, 2, 240))
        chosen.append(choose(one, 300))
        judged.append(one.judge.score(["a"]).primary["a"])
    assert np.mean(chosen) > 0.58
    assert abs(np.mean(judged) - 0.5) < 2 * 0.5 / (6 * 120) ** 0.5


def test_no_score_changes_with_the_select_rows() -> None:
    one, other = made("a"), made("a")
    for each in (one, other):
        each.observe("a", blobs([0, 1] * 4), [0, 1] * 4)
        each.hold_out("a", blobs([0, 1] * 20, 3), [0, 1] * 20, kind="judge")
    before = one.report()
    one.hold_out("a", blobs([0, 1] * 20, 4), [1, 0] * 20, kind="select")
    after = one.report()
    assert after["rows"] == before["rows"]
    assert after["scores"] == other.report()["scores"] == before["scores"]
    assert one.judge.freeze()["a"].rows.x.tobytes() == other.judge.freeze()["a"].rows.x.tobytes()


def test_a_task_with_select_rows_alone_has_no_score() -> None:
    one = made("a")
    one.observe("a", blobs([0, 1] * 4), [0, 1] * 4)
    one.hold_out("a", blobs([0, 1] * 4), [0, 1] * 4, kind="select")
    assert one.evaluate_held_out() == {}
    assert one.judge.counts() == {}


# -- scores ----------------------------------------------------------------------------------------------------


def test_a_phase_that_comes_back_is_one_part_with_all_its_rows() -> None:
    one = made("a")
    one.observe("a", blobs([0, 1] * 4), [0, 1] * 4)
    for number, phase in enumerate(["x", "y", "x"]):
        one.switch_task("a", phase)
        one.hold_out("a", blobs([0, 1] * 10, number), [0, 1] * 10, kind="judge")
    found = one.judge.score().parts
    assert {name: part.rows for name, part in found.items()} == {"a/x": 40, "a/y": 20}
    assert sum(part.errors.error_H.size for part in found.values()) == 60


def test_scores_weigh_classes_as_the_stream_brought_them() -> None:
    one = made("a", classes=(0, 1))
    one.observe("a", blobs([0] * 90 + [1] * 10), [0] * 90 + [1] * 10)
    one.hold_out("a", blobs([0] * 20 + [1] * 20, 5), [1] * 40, kind="judge")
    one.hold_out("a", blobs([0] * 20, 6), [0] * 20, kind="judge")
    found = one.judge.score(["a"]).scores["a"]
    count = np.array([90 + 20, 10 + 40])
    errors = one.judge.score(["a"]).parts["a"].errors
    assert errors.score == pytest.approx(found["accuracy"])
    of_class = [errors.weight_H[errors.weight_H == w].sum() for w in np.unique(errors.weight_H)]
    assert sorted(of_class) == pytest.approx(sorted(count / count.sum()))


def test_rows_are_answered_once_for_a_step_and_anew_when_rows_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    passes: list[int] = []

    def counted(model: Model, weights: Mapping[str, Tensor], task: str, rows: Rows) -> Tensor:
        passes.append(len(rows))
        return outputs(model, weights, task, rows)

    monkeypatch.setattr(evaluate, "outputs", counted)
    one = streamed(made("a", holdout=0.3))
    first = one.judge.score()
    assert one.judge.score().scores == first.scores
    assert len(passes) == 1
    one.hold_out("a", blobs([0]), [0], kind="judge")
    assert one.judge.score().rows["a"] == first.rows["a"] + 1
    assert len(passes) == 2
    streamed(one, 1, 900)
    one.judge.score()
    assert len(passes) == 3


def test_tasks_are_scored_together_up_to_so_many_rows() -> None:
    counts = {"a": 300, "b": 300, "c": 500, "d": 10, "e": 900, "f": 1}
    assert chunks(counts, 600) == [["a", "b"], ["c", "d"], ["e"], ["f"]]
    assert chunks({}, 600) == []
    assert chunks(counts, 10_000) == [list(counts)]
