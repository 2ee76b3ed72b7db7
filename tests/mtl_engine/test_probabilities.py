"""Probabilities are those of the stream, the decision stays what was trained, and a snapshot says which is which."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtl_engine import export, probabilities, snapshot
from mtl_engine.engine import Engine
from mtl_engine.errors import EngineError, StateError
from mtl_engine.types import KINDS, TaskSpec
from tests.support.engines import blobs, engine, labels_of, parts, task

RARE = 0.1
WIDTH = 4


def stream(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two classes that overlap, one of them rare."""
    draw = np.random.default_rng(seed)
    y = (draw.random(n) < RARE).astype(np.int64)
    x = draw.standard_normal((n, WIDTH)) + np.where(y, 0.8, -0.8)[:, None]
    return x.astype(np.float32), y


def taught(**settings: Any) -> Engine:
    """An engine that saw 1,600 rows; of every 32 four were held out."""
    one = engine({"name": "dark_er", "adjust": 1.0}, **settings)
    one.add_task(task("rare"))
    x, y = stream(1600, 0)
    for start in range(0, len(y), 32):
        one.hold_out("rare", x[start : start + 4], y[start : start + 4])
        one.observe("rare", x[start + 4 : start + 32], y[start + 4 : start + 32])
    return one


@cache
def once() -> Engine:
    return taught()


X, Y = stream(4000, 1)


def test_the_mean_of_a_probability_is_the_rate_of_the_class() -> None:
    p = once().predict_proba("rare", X)[:, once().describe()["tasks"][0]["classes"].index(1)]
    assert p.mean() == pytest.approx(Y.mean(), abs=0.02)
    balanced = np.mean(once().predict("rare", X) == 1)
    assert balanced > 1.2 * Y.mean()  # as it was trained to: a rare class is not given up


def test_the_decision_is_the_largest_output_unless_the_task_says_prior(tmp_path: Path) -> None:
    one = taught()
    labels = np.array(one.describe()["tasks"][0]["classes"])
    probable = labels[one.predict_proba("rare", X).argmax(1)]
    balanced = one.predict("rare", X)
    assert (balanced != probable).any()
    one.snapshot(tmp_path / "before")
    one.update_task("rare", decision="prior")
    assert (one.predict("rare", X) == probable).all()
    one.snapshot(tmp_path / "after")
    before, after = snapshot.load(tmp_path / "before"), snapshot.load(tmp_path / "after")
    assert (before.predict("rare", X) == balanced).all()
    assert (after.predict("rare", X) == probable).all()
    assert "another" in before.manifest["probabilities"]["rare"]["note"]
    assert after.manifest["probabilities"]["rare"]["decision"] == "prior"


def test_asking_for_probabilities_changes_no_state_and_a_restored_engine_gives_the_same() -> None:
    one = taught()
    before = {name: value.clone() for name, value in one.state_dict().tensors.items()}
    p = one.predict_proba("rare", X)
    state = one.state_dict()
    assert all(torch.equal(value, before[name]) for name, value in state.tensors.items())
    other = engine({"name": "dark_er", "adjust": 1.0})
    other.load_state_dict(state)
    assert (other.predict_proba("rare", X) == p).all()


def test_a_manifest_tells_the_error_before_and_after_on_rows_that_nothing_was_fitted_on(
    tmp_path: Path,
) -> None:
    told = once().snapshot(tmp_path / "v")["probabilities"]["rare"]
    assert told["select_rows"] + told["judge_rows"] == 200
    assert told["temperature"] == snapshot.load(tmp_path / "v").calibration("rare").temperature
    for when in ("ece_before", "ece"):
        low, high = told[when]["interval"]
        assert 0 <= low < high <= 1
    assert told["ece"]["value"] < told["ece_before"]["value"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_snapshot_answers_as_the_engine_does(tmp_path: Path, kind: str) -> None:
    one = engine()
    one.add_task(task("a", kind))
    x = np.random.default_rng(0).standard_normal((90, WIDTH)).astype(np.float32)
    one.observe("a", x, labels_of(kind, 90))
    one.hold_out("a", x, labels_of(kind, 90, 1))
    manifest = one.snapshot(tmp_path / "v")
    model = snapshot.load(tmp_path / "v")
    assert (model.predict("a", x) == one.predict("a", x)).all()
    if kind == "regression":
        assert manifest["probabilities"] == {}
        assert model.calibration("a").temperature == 1.0
    else:
        assert (model.predict_proba("a", x) == one.predict_proba("a", x)).all()
        assert 20 < model.calibration("a").rows < 90


def test_a_snapshot_of_before_there_were_probabilities_answers_as_it_did(tmp_path: Path) -> None:
    tensors, tasks, manifest = once().stage_snapshot()
    old = {n: v for n, v in tensors.items() if not n.endswith((".stream_C", ".recent_KC"))}
    tasks = json.loads(json.dumps(tasks))
    del tasks["probabilities"], manifest["probabilities"]
    del tasks["registry"]["tasks"][0]["spec"]["decision"]
    snapshot.write(tmp_path / "old", old, tasks, manifest)
    model = snapshot.load(tmp_path / "old")
    z = model("rare", X)
    assert (model.predict_proba("rare", X) == torch.softmax(z, 1).numpy()).all()
    assert (model.predict("rare", X) == once().predict("rare", X)).all()


def test_offsets_that_are_not_as_many_as_columns_are_refused(tmp_path: Path) -> None:
    tensors, tasks, manifest = once().stage_snapshot()
    tasks = json.loads(json.dumps(tasks))
    tasks["probabilities"]["rare"]["shift"].append(0.0)
    snapshot.write(tmp_path / "v", tensors, tasks, manifest)
    with pytest.raises(StateError, match="rare have 3 offsets: its head has 2 columns"):
        snapshot.load(tmp_path / "v")


def test_an_exported_graph_gives_the_same_probabilities(tmp_path: Path) -> None:
    one = once()
    told = one.export(tmp_path / "x", "torch-export")
    assert told["tasks"]["rare"]["decision"] == "balanced"
    graph = export.Graph(snapshot.built(*one.stage_snapshot()), "rare")
    p = graph.named(torch.from_numpy(X))["probabilities"].detach().numpy()
    assert np.abs(p - one.predict_proba("rare", X)).max() < 1e-5


def test_without_held_out_rows_the_shares_alone_make_the_probability() -> None:
    one = engine({"name": "dark_er", "adjust": 1.0})
    one.add_task(task("a"))
    one.observe("a", X[:40], Y[:40])
    counts = np.bincount(Y[:40])
    order = one.describe()["tasks"][0]["classes"]
    z = parts(one).model("a", torch.from_numpy(X[:5])).detach()
    expected = torch.softmax(z + torch.log(torch.tensor(counts[order] / 40)), 1)
    assert one.predict_proba("a", X[:5]) == pytest.approx(expected.numpy(), abs=1e-6)


def test_a_class_that_only_held_out_rows_had_does_not_stand_in_the_way() -> None:
    one = engine()
    one.add_task(task("a"))
    one.observe("a", X[:32], Y[:32])
    one.hold_out("a", X[:60], np.arange(60) % 3)
    assert one.predict_proba("a", X[:3]).shape == (3, 2)
    assert np.isfinite(one.predict_proba("a", X)).all()


def test_a_decision_is_one_of_two_words_and_balanced_where_nothing_is_said() -> None:
    given = TaskSpec("a").to_dict()
    del given["decision"]
    assert TaskSpec.from_dict(given).decision == "balanced"
    with pytest.raises(EngineError, match=r"decision of task a .*'prior'"):
        TaskSpec("a", decision="priors")
    with pytest.raises(EngineError, match="decision of task a"):
        TaskSpec("a").changed({"decision": "best"})


def test_scorecards_of_very_many_tasks_are_whole_for_the_first_and_brief_for_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probabilities, "CARDS", 1)
    one = engine("finetune")
    for name in ("a", "b"):
        one.add_task(task(name))
        one.observe(name, blobs([0, 1] * 8), [0, 1] * 8)
        one.hold_out(name, blobs([0, 1] * 20, 3), [0, 1] * 20)
    cards = one.report()["scorecards"]
    assert cards["a"]["calibration"] is not None
    assert (cards["b"]["classes"], cards["b"]["collapsed"]) == ([], False)
    assert cards["b"]["worst"].keys() == {"class", "recall", "rows"}
