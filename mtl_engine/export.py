"""Snapshots as files that run without this package: one graph a task, as torch.export or ONNX, checked against the model.

What a graph cannot hold stays with the caller and is written into the export's manifest: texts become bytes and
categories become bucket numbers before they enter it. An export that differs from the model is not made.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from mtl_engine.errors import EngineError
from mtl_engine.inputs import InputTable
from mtl_engine.names import unknown
from mtl_engine.snapshot import SnapshotModel
from mtl_engine.state import sha256
from mtl_engine.tasks.base import TaskType
from mtl_engine.types import Array, Json

SCHEMA = 1
TOLERANCE = 1e-4  # of |export - model| / max(1, |model|), for any number of any row tried
_SUMMED = 512  # bytes of text; rounding of longer sums, in another order, grows with the root of their length
_SEED = 7  # of the rows that are tried; any number
_ROWS = (1, 2, 13)  # in one call: the smallest, and two other sizes than the graph was made with
_FARTHEST = 1e4  # of the numbers that are tried

Run = Callable[[Sequence[Array]], list[Array]]
"""An exported graph, loaded from its file: inputs in, answers out."""


class Graph(nn.Module):
    """The parts of a model that one task needs, from checked rows to answers in the order of `answers`."""

    def __init__(self, model: SnapshotModel, task: str) -> None:
        super().__init__()
        table = model.model.table_of[task]
        self.encoder = model.model.encoders[table]
        self.trunk = model.model.trunk
        self.head = model.model.head(task)
        self._kind: TaskType = model.registry[task].kind
        self._calibration = model.calibration(task)

    def forward(self, x: Tensor, length: Tensor | None = None) -> tuple[Tensor, ...]:
        return tuple(self.named(x, length).values())

    def named(self, x: Tensor, length: Tensor | None = None) -> dict[str, Tensor]:
        """Answers by name."""
        z_BC = self.head(self.trunk(self.encoder(x, length)))
        return self._kind.answers(z_BC, self._calibration.moved(z_BC))


def export(
    model: SnapshotModel,
    path: str | Path,
    format: str,
    tasks: Sequence[str] | None = None,
    tolerance: float | None = None,
) -> Json:
    """Write the new folder `path`: a graph for each of `tasks` (default: all), and manifest.json, which is returned.

    Formats: `torch-export` (`<task>.pt2`) and `onnx` (`<task>.onnx`). The number of rows is free. Every graph is loaded
    back and compared with the model on random and extreme rows: beyond `tolerance` (default: `allowed`), EngineError and
    no folder.
    """
    path = Path(path)
    if format not in FORMATS:
        raise EngineError(unknown("format of an export", format, FORMATS))
    names = list(tasks) if tasks is not None else model.tasks
    for name in names:
        if not model.model.columns(model.registry[name].spec.name):
            raise EngineError(f"task {name} has no head yet: train it on labelled rows first")
    if path.exists():
        raise EngineError(f"{path} exists: remove it, or name another folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    tmp.mkdir()
    try:
        entries = {name: _exported(model, name, tmp, format, tolerance) for name in names}
        manifest = _manifest(model, format, entries, tmp)
        (tmp / "manifest.json").write_text(json.dumps(manifest, indent=1, allow_nan=False))
        tmp.rename(path)
    finally:
        shutil.rmtree(tmp, ignore_errors=True)
    return manifest


def _manifest(model: SnapshotModel, format: str, entries: Json, folder: Path) -> Json:
    source = {key: model.manifest.get(key) for key in ("version", "step", "weights", "files")}
    files = {
        file.name: {"sha256": sha256(file), "bytes": file.stat().st_size}
        for file in sorted(folder.iterdir())
    }
    made = {"format": format, "torch": torch.__version__}
    return {"schema": SCHEMA, **made, "snapshot": source, "tasks": entries, "files": files}


def _exported(
    model: SnapshotModel, task: str, folder: Path, format: str, tolerance: float | None
) -> Json:
    """One task's graph in `folder`; what its users must know."""
    table = model.registry.tables[model.model.table_of[task]]
    graph = Graph(model, task).eval()
    example = [torch.from_numpy(value) for value in _random(table, 3, 0).values()]
    names = {"inputs": list(_random(table, 1, 0)), "outputs": list(graph.named(*example))}
    suffix, write = FORMATS[format]
    file = folder / f"{task}.{suffix}"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporters' own deprecations are no news for our users
        try:
            rows = torch.export.Dim("rows", min=1)
            program = torch.export.export(
                graph, tuple(example), dynamic_shapes=(*({0: rows} for _ in example),)
            )
            run = write(program, file, names)
        except ImportError as error:
            raise EngineError(
                f"{format} needs a package: pip install 'mtld[export]' ({error})"
            ) from error
        except (RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise EngineError(f"task {task} cannot be exported as {format}: {error}") from error
        error, tried = _parity(graph, run, table)
    limit = allowed(table) if tolerance is None else tolerance
    if not error <= limit:
        raise EngineError(
            f"the {format} graph of {task} differs from the model by {error:.3g} on {tried} rows: allowed is {limit:g}; "
            "nothing was exported; if that is near enough for you, allow it with tolerance"
        )
    checked = {"max_error": error, "tolerance": limit, "rows_tried": tried}
    return {**_signature(model, task, table, graph), "file": file.name, **checked}


def allowed(table: InputTable) -> float:
    """What a graph over this table may differ by: TOLERANCE, times the root of how much longer its texts are than 512."""
    longer = table.shape[0] / _SUMMED if table.modality == "text" else 1.0
    return TOLERANCE * max(1.0, longer**0.5)


def _signature(model: SnapshotModel, task: str, table: InputTable, graph: Graph) -> Json:
    spec = model.registry[task].spec
    one = _random(table, 1, 0)
    answers = graph.named(*(torch.from_numpy(value) for value in one.values()))
    return {
        "kind": spec.kind,
        "decision": spec.decision,  # balanced: by `logits`, every class alike; prior: by `probabilities`
        "modality": spec.modality,
        "labels": model.classes(task) or list(spec.classes),
        "inputs": [_tensor(name, value) for name, value in one.items()],
        "outputs": [_tensor(name, value.detach().numpy()) for name, value in answers.items()],
        "scale": table.scale,  # applied inside the graph
        "prepare": _prepare(table),
    }


def _tensor(name: str, value: Array) -> Json:
    return {"name": name, "dtype": value.dtype.name, "shape": ["rows", *value.shape[1:]]}


def _prepare(table: InputTable) -> str:
    if table.modality == "text":
        return (
            f"x: the text's UTF-8 bytes, cut at {table.shape[0]} and padded with zeros to that many; "
            "length: how many of them are the text's"
        )
    categorical = list(table.encoder.get("categorical", ()))
    if table.modality == "table" and categorical:
        return (
            f"missing values are NaN; a value of the columns {categorical} becomes its bucket: the first 8 bytes of "
            "BLAKE2b with digest size 8 over its UTF-8 text (a number's text is '%.9g'), as a little-endian "
            f"whole number, modulo {int(table.encoder.get('buckets', 1024))}"
        )
    if table.modality == "table":
        return "missing values are NaN"
    return "rows as they are" + (", not scaled" if table.dtype == "uint8" else "")


# -- formats -------------------------------------------------------------------------------------------------


def _torch_export(program: torch.export.ExportedProgram, file: Path, _names: Json) -> Run:
    """A .pt2 archive; without example inputs, the only part of it that torch would pickle."""
    program.example_inputs = None
    torch.export.save(program, file)
    module = torch.export.load(file).module()  # noqa: TID251  (written in the line above)

    def run(inputs: Sequence[Array]) -> list[Array]:
        found = module(*(torch.from_numpy(value) for value in inputs))
        return [cast("Tensor", value).numpy() for value in found]

    return run


def _onnx(program: torch.export.ExportedProgram, file: Path, names: Json) -> Run:
    import onnxruntime

    made: Any = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        input_names=names["inputs"],
        output_names=names["outputs"],
    )
    made.save(file)
    runtime: Any = onnxruntime  # has no types
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def run(inputs: Sequence[Array]) -> list[Array]:
        return session.run(names["outputs"], dict(zip(names["inputs"], inputs, strict=True)))

    return run


FORMATS: dict[str, tuple[str, Callable[[torch.export.ExportedProgram, Path, Json], Run]]] = {
    "torch-export": ("pt2", _torch_export),
    "onnx": ("onnx", _onnx),
}


# -- parity --------------------------------------------------------------------------------------------------


def _parity(graph: Graph, run: Run, table: InputTable) -> tuple[float, int]:
    """The largest difference between graph and file, and how many rows were compared."""
    worst, tried = 0.0, 0
    for inputs in [_random(table, n, seed) for seed, n in enumerate(_ROWS)] + _edges(table):
        values = list(inputs.values())
        expected = [value.numpy() for value in graph(*(torch.from_numpy(v) for v in values))]
        for mine, theirs in zip(expected, run(values), strict=True):
            worst = max(worst, _difference(mine, theirs))
        tried += len(values[0])
    return worst, tried


def _difference(mine: Array, theirs: Array) -> float:
    """max |mine - theirs| / max(1, |mine|); infinite where shapes, dtypes or non-finite numbers differ."""
    if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
        return float("inf")
    finite = np.isfinite(mine)
    if not (finite.all() and np.isfinite(theirs).all()):
        return float("inf")
    gap = np.abs(mine.astype(np.float64) - theirs) / np.maximum(1.0, np.abs(mine))
    return float(gap.max(initial=0.0))


def _random(table: InputTable, n: int, seed: int) -> dict[str, Array]:
    """`n` rows as the encoder gets them."""
    draw = np.random.default_rng([_SEED, seed])
    shape = (n, *table.shape)
    if table.modality == "text":
        length_B = draw.integers(0, table.shape[0] + 1, n).astype(np.int32)
        x_BT = draw.integers(1, 256, shape).astype(np.uint8)
        x_BT[np.arange(table.shape[0]) >= length_B[:, None]] = 0
        return {"x": x_BT, "length": length_B}
    if table.dtype == "uint8":
        return {"x": draw.integers(0, 256, shape).astype(np.uint8)}
    x = draw.standard_normal(shape)
    if table.modality == "table":
        x[draw.random(shape) < 0.2] = np.nan
    return {"x": _bucketed(table, x).astype(table.dtype)}


def _edges(table: InputTable) -> list[dict[str, Array]]:
    """Rows at the ends of what the encoder may get: nothing, all, the largest."""
    shape = (2, *table.shape)
    if table.modality == "text":
        ends = np.array([0, table.shape[0]], np.int32)
        full = np.full(shape, ord("A"), np.uint8) * (ends > 0)[:, None].astype(np.uint8)
        return [{"x": full, "length": ends}]
    if table.dtype == "uint8":
        return [{"x": np.full(shape, value, np.uint8)} for value in (0, 255)]
    values = [0.0, _FARTHEST, -_FARTHEST] + ([np.nan] if table.modality == "table" else [])
    return [{"x": _bucketed(table, np.full(shape, v)).astype(table.dtype)} for v in values]


def _bucketed(table: InputTable, x: Array) -> Array:
    """With bucket numbers in the categorical columns."""
    last = int(table.encoder.get("buckets", 1024)) - 1
    for column in table.encoder.get("categorical", ()):
        x[:, column] = np.clip(np.abs(np.round(x[:, column] * last)), 0, last)
    return x
