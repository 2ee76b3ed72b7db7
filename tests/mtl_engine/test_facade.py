"""A walk through the public facade, as a user would take it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_engine.errors import BadRows, EngineError
from mtl_engine.inputs import MAX_TEXT_BYTES
from mtl_engine.types import TaskSpec
from mtld import Engine, load_snapshot
from tests.support.engines import differences, engine

DRAW = np.random.default_rng(3)
TEXTS = ["it rains", "the sun shines", "rain again", "sunny all day"] * 3
SKIES = ["wet", "dry", "wet", "dry"] * 3
PIXELS = DRAW.integers(0, 60, (12, 6, 6)).astype(np.uint8)
PIXELS[::2, :, 3:] += 150  # every other image is bright on the right
SIDES = [7, 30] * 6
TABLE = [[f"{'ABC'[k % 3]}", float(k), None if k % 5 == 0 else 2.0 * k] for k in range(12)]
PRICES = [1000.0 + 10 * k for k in range(12)]


def taught(rounds: int = 40) -> Engine:
    """An engine that learnt a task of every modality."""
    one = engine(optimizer={"name": "adamw", "lr": 0.01}, replay_batch=12)
    one.add_task(TaskSpec("sky", modality="text", max_bytes=32))
    one.add_task(TaskSpec("side", modality="image", input_shape=(6, 6)))
    one.add_task(
        TaskSpec(
            "price",
            modality="table",
            kind="regression",
            encoder={"name": "table", "categorical": [0]},
        )
    )
    for _ in range(rounds):
        one.observe("sky", TEXTS, SKIES)
        one.observe("side", PIXELS, SIDES)
        one.observe("price", TABLE, PRICES)
    return one


@pytest.fixture(scope="module")
def learnt() -> Engine:
    return taught()


def test_text_images_and_tables_are_learnt_and_answered_in_their_own_words(learnt: Engine) -> None:
    assert learnt.predict("sky", ["rain", "sun"]).tolist() == ["wet", "dry"]
    assert learnt.predict("side", PIXELS[:4]).tolist() == [7, 30, 7, 30]
    assert np.abs(learnt.predict("price", TABLE)[:, 0] - PRICES).max() < 40
    assert learnt.predict_proba("sky", TEXTS[:2]).sum(1) == pytest.approx([1, 1])
    assert learnt.evaluate("sky", TEXTS, SKIES) == {"accuracy": 1.0, "macro_recall": 1.0}
    assert learnt.evaluate("sky", ["rain"], ["hail"]) == {"accuracy": 0.0, "macro_recall": 0.0}
    assert learnt.evaluate("price", TABLE, PRICES)["r2"] > 0.8


def test_a_row_may_serve_several_tasks_and_miss_labels_of_some() -> None:
    one = engine(encoder={"image": "mlp"})
    one.add_task(TaskSpec("side"))
    one.add_task(TaskSpec("tags", kind="multilabel", classes=("bright", "left", "big")))
    tags = [[int(k % 2 == 0), 1, 0] for k in range(12)]
    labels = {"side": SIDES, "tags": tags}
    reports = [one.observe(None, PIXELS, labels, mask={"side": [1] * 11 + [0]}) for _ in range(30)]
    report = reports[-1]
    assert set(report.losses) == {"side", "tags"}
    assert report.stream_rows == 12
    assert one.predict("tags", PIXELS).tolist() == tags
    assert one.predict("side", PIXELS).tolist() == SIDES


def test_a_report_tells_what_a_step_did() -> None:
    one = engine(buffer_rows=8, replay_batch=5)
    one.add_task(TaskSpec("sky", modality="text"))
    first, second = one.observe("sky", TEXTS, SKIES), one.observe("sky", TEXTS[:2], SKIES[:2])
    assert (first.step, first.stream_rows, first.replayed_rows) == (1, 12, 0)
    assert (second.step, second.stream_rows, second.replayed_rows) == (2, 2, 5)
    assert float(first.losses["sky"]) == pytest.approx(first.loss)
    assert not first.skipped
    assert one.describe()["replay_rows"] == 8


def test_scoring_predicting_and_describing_change_no_state() -> None:
    one, other = taught(3), taught(3)
    for each in (one, other):
        each.hold_out("side", PIXELS, SIDES, kind="judge")
    for _ in range(2):
        one.predict("sky", ["something new"])
        one.predict_proba("side", PIXELS)
        one.evaluate("price", TABLE, PRICES)
        one.evaluate("sky", ["hail"], ["hail"])
        one.evaluate_held_out()
        one.matrix()
        one.describe()
        one.stage_snapshot()
    assert differences(one, other) == []


def test_held_out_rows_are_scored_at_a_switch_and_never_trained_on() -> None:
    one, other = taught(12), taught(12)
    one.hold_out("side", PIXELS, SIDES, kind="judge")
    one.hold_out("sky", ["rain", "sun"], ["wet", "dry"], kind="judge")
    first = one.switch_task("side", phase="first")
    assert first.scores == {"side": 1.0, "sky": 1.0}
    assert one.focus == ("side", "first")
    for each in (one, other):
        each.observe("side", PIXELS, SIDES)
    assert [name for name in differences(one, other) if name.startswith("model.")] == []
    second = one.switch_task("sky")
    assert (second.previous_task, second.previous_phase) == ("side", "first")
    matrix = one.matrix()
    assert [row["task"] for row in matrix["rows"]] == [None, "side", "sky"]
    assert matrix["average_accuracy"] == 1.0
    assert matrix["forgetting"] == 0.0
    json.dumps(matrix, allow_nan=False)


def test_a_score_that_is_not_defined_is_null_wherever_it_leaves(tmp_path: Path) -> None:
    one = engine()
    one.add_task(TaskSpec("price", modality="embedding", kind="regression"))
    one.add_task(TaskSpec("later", modality="text"))
    x = DRAW.standard_normal((12, 3)).astype(np.float32)
    one.observe("price", x, PRICES)
    one.hold_out("price", x[:7], [0.1] * 7, kind="judge")  # all equal: no variance to explain
    assert one.evaluate_held_out()["price"]["r2"] is None
    assert one.evaluate_held_out()["price"]["mae"] is not None
    switched = one.switch_task("price", phase="first")
    assert switched.scores == {"price": None}
    assert one.describe()["tasks"][1]["null_loss"] is None
    assert one.matrix()["average_accuracy"] is None
    one.snapshot(tmp_path / "snapshot")
    manifest = (tmp_path / "snapshot" / "manifest.json").read_text()
    assert json.loads(manifest)["scores"]["price"]["r2"] is None
    left = [one.matrix(), one.describe(), one.state_dict().meta, one.evaluate("price", x, [1] * 12)]
    json.dumps(left, allow_nan=False)


def test_a_removed_task_is_gone_and_the_others_answer_as_before() -> None:
    one = taught(3)
    before = one.predict("sky", TEXTS).tolist()
    one.remove_task("side")
    assert sorted(one.tasks) == ["price", "sky"]
    assert one.predict("sky", TEXTS).tolist() == before
    with pytest.raises(EngineError, match="unknown task 'side'"):
        one.predict("side", PIXELS)
    one.add_task(TaskSpec("side", modality="image"))
    one.observe("side", PIXELS[:, :5], ["left"] * 12)  # another shape and other labels than before
    assert one.predict("side", PIXELS[:1, :5]).tolist() == ["left"]


def test_a_snapshot_answers_the_same_in_a_process_without_the_daemon(
    learnt: Engine, tmp_path: Path
) -> None:
    place = tmp_path / "snapshot"
    manifest = learnt.snapshot(place)
    assert (manifest["weights"], manifest["choice"]) == ("live", None)
    assert manifest["step"] == learnt.step_count
    code = (
        "import json, sys; from mtl_engine.snapshot import load; model = load(sys.argv[1]);"
        "given = json.load(sys.stdin);"
        "found = {task: model.predict(task, x).tolist() for task, x in given.items()};"
        "bad = [name for name in sys.modules if name.split('.')[0] in ('daemon', 'redis')];"
        "print(json.dumps({'found': found, 'bad': bad, 'classes': model.classes('sky')}))"
    )
    given = {"sky": TEXTS, "side": PIXELS.tolist(), "price": TABLE}
    done = subprocess.run(
        [sys.executable, "-c", code, str(place)],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    answer = json.loads(done.stdout)
    assert answer["bad"] == []
    assert answer["classes"] == ["wet", "dry"]
    assert answer["found"]["sky"] == learnt.predict("sky", TEXTS).tolist()
    assert answer["found"]["side"] == learnt.predict("side", PIXELS).tolist()
    np.testing.assert_allclose(answer["found"]["price"], learnt.predict("price", TABLE), rtol=1e-5)


def test_a_snapshot_is_refused_when_a_byte_changed(learnt: Engine, tmp_path: Path) -> None:
    place = tmp_path / "snapshot"
    learnt.snapshot(place)
    model = load_snapshot(place)
    assert np.array_equal(model.predict_proba("sky", TEXTS), learnt.predict_proba("sky", TEXTS))
    assert not any(parameter.requires_grad for parameter in model.parameters())
    file = place / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(EngineError, match=r"not the file that manifest\.json describes"):
        load_snapshot(place)


@pytest.mark.parametrize(
    ("call", "nearest"),
    [
        (lambda: Engine.from_config({"stratgy": "er"}), "strategy"),
        (lambda: Engine(strategy="derp"), "derpp"),
        (lambda: Engine(strategy={"name": "derpp", "alfa": 1.0}), "alpha"),
        (lambda: Engine(policy="balansed"), "balanced"),
        (lambda: Engine(weighting="equl"), "equal"),
        (lambda: Engine(optimizer="adam"), "adamw"),
        (lambda: Engine(encoder="txt"), "text"),
        (lambda: Engine(encoder={"imag": "mlp"}), "image"),
        (lambda: Engine(trunk={"with": 3}), "width"),
        (lambda: Engine(weights="emma"), "ema"),
        (lambda: TaskSpec("a", modality="imagee"), "image"),
        (lambda: TaskSpec("a", kind="regresion"), "regression"),
        (lambda: TaskSpec.from_dict({"name": "a", "max_clases": 3}), "max_classes"),
        (lambda: taught_nothing().observe("sk", ["x"], ["y"]), "sky"),
        (lambda: taught_nothing().update_task("sky", shar=2.0), "share"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(call: Any, nearest: str) -> None:
    with pytest.raises(EngineError, match=f"did you mean '{nearest}'"):
        call()


def taught_nothing() -> Engine:
    one = engine()
    one.add_task(TaskSpec("sky", modality="text"))
    return one


@pytest.mark.parametrize(
    ("modality", "shape"),
    [("table", (4, 4)), ("embedding", (2, 2)), ("image", (4,)), ("image", (1, 2, 3, 4)), ("text", (4, 4)), ("table", ())],
)  # fmt: skip
def test_an_input_shape_that_rows_of_the_modality_cannot_have_is_refused(
    modality: str, shape: tuple[int, ...]
) -> None:
    with pytest.raises(EngineError, match=f"a row of modality {modality} has"):
        TaskSpec("a", modality=modality, input_shape=shape)


def test_texts_that_would_fill_the_memory_when_padded_are_refused() -> None:
    one = engine()
    one.add_task(TaskSpec("sky", modality="text", max_bytes=65_536))
    rows = MAX_TEXT_BYTES // 65_536
    with pytest.raises(BadRows, match=f"send at most {rows} rows") as caught:
        one.observe("sky", ["short"] * (rows + 1), ["wet"] * (rows + 1))
    assert caught.value.reason == "oversized"
    with pytest.raises(BadRows, match=f"send at most {rows} rows"):
        one.observe("sky", np.ones((rows + 1, 1), np.uint8), ["wet"] * (rows + 1))
    assert one.observe("sky", ["short"] * 3, ["wet"] * 3).stream_rows == 3


def test_a_refused_event_changes_nothing() -> None:
    one, other = taught(3), taught(3)
    for bad in (
        lambda: one.observe("sky", ["new"], ["new label"], mask=[2]),
        lambda: one.observe("side", PIXELS[:, :5], [99] * 12),
        lambda: one.observe(None, PIXELS, {"side": [99] * 12, "price": PRICES}),
        lambda: one.observe("price", TABLE, ["dear"] * 12),
        lambda: one.hold_out("side", PIXELS, [-1] * 12),
    ):
        with pytest.raises(BadRows):
            bad()
    assert differences(one, other) == []


def test_a_step_that_is_not_finite_is_skipped_and_counted() -> None:
    one = engine(optimizer={"name": "sgd", "lr": 1e30})
    one.add_task(TaskSpec("price", modality="embedding", kind="regression"))
    x = DRAW.standard_normal((4, 3)).astype(np.float32)
    reports = [one.observe("price", x, [1.0, 2.0, 3.0, 4.0]) for _ in range(6)]
    skipped = [report.skipped for report in reports]
    assert any(skipped)
    assert reports[-1].skipped_steps == sum(skipped)
    assert one.step_count == 6
