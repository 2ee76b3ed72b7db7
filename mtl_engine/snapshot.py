"""A frozen model for users: save, load, predict. Files: model.safetensors, tasks.json, manifest.json."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mtl_engine.calibration import AS_TRAINED, Calibration
from mtl_engine.errors import EngineError, StateError
from mtl_engine.evaluate import outputs
from mtl_engine.model import Model, TrunkSpec
from mtl_engine.registry import Registry
from mtl_engine.state import as_tensors, read_tensors, sha256, write_tensors
from mtl_engine.types import Array, Json

SCHEMA = 1
_FILES = ("model.safetensors", "tasks.json")


class SnapshotModel(nn.Module):
    """`predict(task, x)` takes the same inputs as training did, and answers in the original labels."""

    def __init__(
        self,
        model: Model,
        registry: Registry,
        manifest: Json,
        calibrations: Mapping[str, Calibration],
    ) -> None:
        super().__init__()
        self.model = model
        self.registry = registry
        self.manifest = manifest
        self._calibrations = dict(calibrations)
        self.eval()
        self.requires_grad_(False)

    @property
    def tasks(self) -> list[str]:
        return list(self.model.table_of)

    def forward(self, task: str, x: Any) -> Tensor:
        """Outputs [B, C] of a task's head: logits, or standardised values of a regression."""
        rows = self.registry.check(task, x)[0]
        if not self.model.columns(task):
            raise EngineError(f"task {task} has no head yet: train it on labelled rows first")
        return outputs(self.model, {}, task, rows)

    def predict(self, task: str, x: Any) -> Any:
        """Labels [B], 0/1 [B, C] or values [B, C], decided as the task's `decision` says."""
        z_BC = self(task, x)
        is_prior = self.registry[task].spec.decision == "prior"
        return self.registry[task].kind.predict(
            self.calibration(task).moved(z_BC) if is_prior else z_BC
        )

    def predict_proba(self, task: str, x: Any) -> Array:
        """Probabilities [B, C] under the stream's class shares; the columns' labels are `classes(task)`.

        Of a snapshot made before there were such: under equal shares, and not calibrated.
        """
        return self.registry[task].kind.probabilities(self.calibration(task).moved(self(task, x)))

    def calibration(self, task: str) -> Calibration:
        """What makes probabilities of a task's outputs."""
        return self._calibrations.get(task, AS_TRAINED)

    def classes(self, task: str) -> list[int | str]:
        """Labels of a classification task's columns."""
        return list(self.registry[task].kind.state()[0].get("labels", ()))[
            : self.model.columns(task)
        ]


def stage(
    model: Model,
    weights: Mapping[str, Tensor],
    registry: Registry,
    calibrations: Mapping[str, Calibration],
) -> tuple[dict[str, Tensor], Json]:
    """Live tensors and the JSON of tasks.json; copy the tensors before the next step."""
    meta, arrays = registry.state()
    tensors = {f"model.{name}": value for name, value in {**model.tensors(), **weights}.items()}
    tensors |= {f"tasks.{name}": value for name, value in as_tensors(arrays).items()}
    trunk = {"width": model.spec.width, "depth": model.spec.depth, "norm": model.spec.norm}
    probabilities = {name: one.to_dict() for name, one in calibrations.items()}
    tasks = {"trunk": trunk, "model": model.structure(), "registry": meta}
    return tensors, {**tasks, "probabilities": probabilities}


def write(path: Path, tensors: Mapping[str, Tensor | Array], tasks: Json, manifest: Json) -> Json:
    """Write the three files into the new folder `path`, each fsynced; returns the manifest with hashes."""
    path.mkdir(parents=True)
    info = write_tensors(path / _FILES[0], tensors)
    _write_json(path / _FILES[1], tasks)
    files = {
        _FILES[0]: {"sha256": info.sha256, "bytes": info.bytes},
        _FILES[1]: {"sha256": sha256(path / _FILES[1]), "bytes": (path / _FILES[1]).stat().st_size},
    }
    full = {**manifest, "schema": SCHEMA, "files": files}
    _write_json(path / "manifest.json", full)
    return full


def load(path: str | Path) -> SnapshotModel:
    """The model in a folder that `write` made; StateError when a file is missing, changed or does not fit."""
    path = Path(path)
    manifest = _read_json(path / "manifest.json")
    if manifest.get("schema") != SCHEMA:
        raise StateError(
            f"{path} has snapshot schema {manifest.get('schema')!r}: this version reads {SCHEMA}"
        )
    for name in _FILES:
        if not (path / name).is_file() or sha256(path / name) != manifest["files"].get(
            name, {}
        ).get("sha256"):
            raise StateError(
                f"{path / name} is missing or not the file that manifest.json describes"
            )
    try:
        return built(read_tensors(path / _FILES[0]), _read_json(path / _FILES[1]), manifest)
    except StateError as error:
        raise StateError(f"{path}: {error}") from error
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError) as error:
        raise StateError(
            f"{path} does not describe a model: {type(error).__name__}: {error}"
        ) from error


def built(tensors: Mapping[str, Tensor | Array], tasks: Json, manifest: Json) -> SnapshotModel:
    """A model on the CPU with copies of these tensors; StateError where one is missing, unknown or does not fit."""
    model = Model(TrunkSpec(**tasks["trunk"]), 0, torch.device("cpu"))
    model.restructure(tasks["model"])
    model.load_tensors(as_tensors(_below("model.", tensors)))
    registry = Registry(None, model.spec.width)
    arrays = {
        name: np.array(value.cpu().numpy() if isinstance(value, Tensor) else value)
        for name, value in _below("tasks.", tensors).items()
    }
    registry.load_state(tasks["registry"], arrays)
    _check_registry(model, registry, arrays)
    strange = [name for name in tensors if not name.startswith(("model.", "tasks."))]
    if strange:
        raise StateError(f"tensors {sorted(strange)} belong to nothing")
    return SnapshotModel(model, registry, manifest, _calibrations(model, tasks))


def _calibrations(model: Model, tasks: Json) -> dict[str, Calibration]:
    """By task; a snapshot of before there were any has none."""
    found = {
        name: Calibration.from_dict(one) for name, one in tasks.get("probabilities", {}).items()
    }
    for name, one in found.items():
        if one.shift_C is not None and one.shift_C.shape != (model.columns(name),):
            raise StateError(
                f"probabilities of {name} have {one.shift_C.size} offsets: its head has {model.columns(name)} columns"
            )
    return found


def _below(prefix: str, tensors: Mapping[str, Tensor | Array]) -> dict[str, Tensor | Array]:
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def _check_registry(model: Model, registry: Registry, arrays: Mapping[str, Array]) -> None:
    """The labels' and statistics' arrays are those that the tasks have, and heads and tasks belong together."""
    own = registry.state()[1]
    later = {f"{name}.{key}" for name, task in registry.tasks.items() for key in task.kind.later}
    missing, strange = own.keys() - arrays.keys() - later, arrays.keys() - own.keys()
    if missing or strange:
        raise StateError(
            f"tensors of the tasks differ: missing {sorted(missing)}, not expected {sorted(strange)}"
        )
    for task, table in model.table_of.items():
        if task not in registry.tasks or registry.tasks[task].table != table:
            raise StateError(f"the head of {task} reads {table}: its task does not")


def _write_json(path: Path, content: Json) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, ensure_ascii=False, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def _read_json(path: Path) -> Json:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StateError(f"{path} cannot be read: {error}") from error
