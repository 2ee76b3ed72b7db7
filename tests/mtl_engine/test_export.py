"""Exports answer as the model does, for every kind and modality, and say what their users must know."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from mtl_engine import export, snapshot
from mtl_engine.encoders.base import Encoder
from mtl_engine.errors import EngineError
from mtl_engine.snapshot import SnapshotModel
from mtl_engine.types import KINDS, MODALITIES, TaskSpec
from tests.support.engines import engine, labels_of

pytestmark = pytest.mark.timeout(120)  # making an ONNX graph takes a second, and there are many
DRAW = np.random.default_rng(5)
N = 12
BATCHES = (1, 2, 9)
ENCODERS: dict[str, Any] = {
    "image": {"name": "cnn"},
    "text": "tfidf",
    "table": {"name": "table", "categorical": [0], "buckets": 16},
    "embedding": {"name": "embedding", "hidden": [8]},
}
INPUTS: dict[str, Any] = {
    "image": DRAW.integers(0, 256, (N, 9, 7, 3)).astype(np.uint8),
    "text": ["", "grüße", "A longer TEXT than the others, cut", "rain"] * 3,
    "table": [["a" if k % 2 else "b", float(k), None if k % 3 else 2.0 * k] for k in range(N)],
    "embedding": DRAW.standard_normal((N, 5)).astype(np.float32) * 30,
}
ALL = [f"{modality}_{kind}" for modality in MODALITIES for kind in KINDS]


@pytest.fixture(scope="module")
def model() -> SnapshotModel:
    """One task of every kind on every modality, each a little trained."""
    one = engine()
    for modality in MODALITIES:
        for kind in KINDS:
            columns: dict[str, Any] = {} if kind == "classification" else {"targets": 2}
            task = TaskSpec(
                f"{modality}_{kind}",
                modality,
                kind,
                encoder=ENCODERS[modality],
                max_bytes=24,
                **columns,
            )
            one.add_task(task)
            for _ in range(2):
                one.observe(task.name, INPUTS[modality], labels_of(kind, N))
    one.add_task(TaskSpec("bag", "text", encoder="text", max_bytes=24))
    one.observe("bag", INPUTS["text"], ["left", "right"] * 6)
    one.add_task(TaskSpec("mlp", encoder="mlp", scale=0.01))
    one.observe("mlp", INPUTS["image"], ["left", "right"] * 6)
    one.add_task(TaskSpec("half", modality="embedding"))
    one.observe("half", INPUTS["embedding"].astype(np.float16), [0, 1] * 6)
    return snapshot.built(*one.stage_snapshot())


@pytest.fixture(scope="module", params=export.FORMATS)
def exported(
    request: pytest.FixtureRequest, model: SnapshotModel, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, Any]:
    path = tmp_path_factory.mktemp("exports") / "all"
    return request.param, path, export.export(model, path, request.param)


def answers(format: str, file: Path, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What somebody without this package gets from a file."""
    if format == "onnx":
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        names = [one.name for one in session.get_inputs()]
        return session.run(None, dict(zip(names, inputs, strict=True)))
    module = torch.export.load(file).module()  # noqa: TID251  (what a user of an export does)
    return [one.numpy() for one in module(*map(torch.from_numpy, inputs))]


def inputs_of(model: SnapshotModel, task: str, rows: int) -> list[np.ndarray]:
    modality = model.registry[task].spec.modality
    x = INPUTS[modality][:rows]
    checked = model.registry.check(task, x.astype(np.float16) if task == "half" else x)[0]
    return [checked.x] if checked.length is None else [checked.x, checked.length]


@pytest.mark.parametrize("task", [*ALL, "mlp", "half"])
def test_a_graph_answers_as_the_model_does_for_any_number_of_rows(
    exported: tuple[str, Path, Any], model: SnapshotModel, task: str
) -> None:
    format, path, manifest = exported
    entry = manifest["tasks"][task]
    assert entry["max_error"] <= entry["tolerance"] == 1e-4
    for rows in BATCHES:
        inputs = inputs_of(model, task, rows)
        found = answers(format, path / entry["file"], inputs)
        modality = model.registry[task].spec.modality
        x = inputs[0] if task == "half" else INPUTS[modality][:rows]
        expected = {"logits": model(task, x).numpy(), "values": model(task, x).numpy()}
        if entry["kind"] == "regression":
            expected["values"] = model.predict(task, x)
        else:
            expected["probabilities"] = model.predict_proba(task, x)
        for output, value in zip(entry["outputs"], found, strict=True):
            assert output["shape"][1:] == list(value.shape[1:])
            assert output["dtype"] == value.dtype.name
            np.testing.assert_allclose(value, expected[output["name"]], rtol=1e-4, atol=1e-4)


def test_the_manifest_says_what_goes_in_and_what_comes_out(exported: tuple[str, Path, Any]) -> None:
    format, path, manifest = exported
    assert json.loads((path / "manifest.json").read_text()) == manifest
    assert manifest["format"] == format
    text, mlp = manifest["tasks"]["text_classification"], manifest["tasks"]["mlp"]
    assert [(one["name"], one["dtype"], one["shape"]) for one in text["inputs"]] == [
        ("x", "uint8", ["rows", 24]),
        ("length", "int32", ["rows"]),
    ]
    assert "UTF-8" in text["prepare"]
    assert mlp["labels"] == ["left", "right"]
    assert (mlp["scale"], mlp["inputs"][0]["dtype"]) == (0.01, "uint8")
    assert "modulo 16" in manifest["tasks"]["table_regression"]["prepare"]
    assert {file.name for file in path.iterdir()} == {*manifest["files"], "manifest.json"}


def test_a_category_becomes_the_bucket_that_the_manifest_describes(model: SnapshotModel) -> None:
    import hashlib

    for value, text in (("a", "a"), (3.0, "3"), (0.1, "0.1")):
        x = model.registry.check("table_regression", [[value, 1.0, 2.0]])[0].x
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        assert x[0, 0] == int.from_bytes(digest, "little") % 16


def test_a_pt2_archive_holds_no_pickle_and_none_is_read(
    model: SnapshotModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        pytest.fail("torch pickles")

    for name in ("torch.save", "torch.load"):
        monkeypatch.setattr(name, forbidden)
    export.export(model, tmp_path / "out", "torch-export", ["text_regression", "mlp"])
    for file in (tmp_path / "out").glob("*.pt2"):
        with zipfile.ZipFile(file) as archive:
            content = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
        assert content["data/sample_inputs/model.pt"] == b""
        for kind in ("weights", "constants"):
            said = json.loads(content[f"data/{kind}/model_{kind}_config.json"])["config"]
            assert not any(one["use_pickle"] for one in said.values())


def test_only_the_tasks_asked_for_are_exported(model: SnapshotModel, tmp_path: Path) -> None:
    manifest = export.export(model, tmp_path / "new" / "out", "torch-export", ["mlp"])
    assert list(manifest["tasks"]) == ["mlp"]
    assert list(manifest["files"]) == ["mlp.pt2"]


@pytest.mark.parametrize(
    ("format", "tasks", "says"),
    [
        ("onxn", None, "did you mean 'onnx'"),
        ("onnx", ["mpl"], "did you mean 'mlp'"),
    ],
)
def test_what_does_not_exist_is_refused_before_anything_is_written(
    model: SnapshotModel, tmp_path: Path, format: str, tasks: list[str] | None, says: str
) -> None:
    with pytest.raises(EngineError, match=says):
        export.export(model, tmp_path / "out", format, tasks)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_is_left_as_it_is(model: SnapshotModel, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="exists"):
        export.export(model, tmp_path, "torch-export")


@pytest.mark.parametrize("off", [2e-4, float("nan")])
def test_a_graph_that_differs_from_the_model_is_not_exported(
    model: SnapshotModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, off: float
) -> None:
    suffix, write = export.FORMATS["torch-export"]

    def wrong(*given: Any) -> export.Run:
        run = write(*given)
        return lambda inputs: [value + np.float32(off) for value in run(inputs)]

    monkeypatch.setitem(export.FORMATS, "torch-export", (suffix, wrong))
    with pytest.raises(EngineError, match=r"differs from the model by .* allowed is 0\.0001"):
        export.export(model, tmp_path / "out", "torch-export", ["mlp"])
    assert list(tmp_path.iterdir()) == []
    if off < 1:
        manifest = export.export(model, tmp_path / "out", "torch-export", ["mlp"], tolerance=1e-3)
        assert manifest["tasks"]["mlp"]["max_error"] == pytest.approx(off, rel=0.01)
        assert manifest["tasks"]["mlp"]["tolerance"] == 1e-3


class Deciding(Encoder):
    """An encoder whose path depends on what is in the rows: no one graph does that."""

    def __init__(self, shape: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.out = torch.nn.Linear(shape[0], width)

    def forward(self, x: Tensor, length_B: Tensor | None) -> Tensor:
        del length_B
        return self.out(x if float(x.sum()) > 0 else -x)


@pytest.mark.parametrize("max_bytes", [512, 8192])
def test_long_texts_may_differ_by_the_rounding_of_their_longer_sums(
    tmp_path: Path, max_bytes: int
) -> None:
    one = engine()
    one.add_task(TaskSpec("a", modality="text", max_bytes=max_bytes))
    one.observe("a", INPUTS["text"], [0, 1] * 6)
    entry = one.export(tmp_path / "out")["tasks"]["a"]
    assert entry["tolerance"] == pytest.approx(1e-4 * (max_bytes / 512) ** 0.5)
    assert entry["max_error"] <= entry["tolerance"]


def test_an_encoder_that_is_no_graph_is_said_plainly(tmp_path: Path) -> None:
    one = engine(encoder={"embedding": f"{__name__}:Deciding"})
    one.add_task(TaskSpec("a", modality="embedding"))
    one.observe("a", INPUTS["embedding"], [0, 1] * 6)
    with pytest.raises(EngineError, match="task a cannot be exported as torch-export"):
        one.export(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_engine_exports_the_weights_it_answers_with(tmp_path: Path) -> None:
    one = engine(weights="ema", ema_decay=0.9)
    one.add_task(TaskSpec("a", modality="embedding", classes=("no", "yes")))
    with pytest.raises(EngineError, match="no head yet"):
        one.export(tmp_path / "none", tasks=["a"])
    for _ in range(5):
        one.observe("a", INPUTS["embedding"], ["no", "yes"] * 6)
    manifest = one.export(tmp_path / "out", format="torch-export")
    assert manifest["snapshot"]["weights"] == "average"
    _, found = answers("torch-export", tmp_path / "out" / "a.pt2", [INPUTS["embedding"]])
    np.testing.assert_allclose(found, one.predict_proba("a", INPUTS["embedding"]), atol=1e-5)
