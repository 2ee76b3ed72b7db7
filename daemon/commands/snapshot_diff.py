"""`mtld snapshot diff`: what changed from one published model to another, from their files alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from daemon import finite, releases
from daemon.commands.shared import Call, verb
from daemon.commands.words import columns, fit, size
from daemon.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from daemon.types import Json

FILE = "model.safetensors"
PARAMETERS = "model."  # what is not below it counts rows and labels; in JSON only
SHOWN = 20  # tensors in the table, those that changed most
_CHUNK = 1 << 20  # numbers compared at a time
Name = Annotated[str, typer.Argument(help="An alias, a number, v000123, or a snapshot's path.")]
TASKS = ("TASK", "LABELS", "METRIC", "A", "B", "B - A")
TENSORS = ("CHANGE", "SIZE", "SHAPE", "TENSOR")


@verb()
def diff(call: Call, a: Name = "champion", b: Name = "latest") -> None:
    """Compare two snapshots: where they come from, tasks, labels, scores, and how far every tensor moved.

    The change of a tensor is |b - a| / |a| (Euclidean norms); of one that grew, over the rows that both have.
    """
    models = call.state_dir / "models"
    found = compare(*(releases.snapshot_directory(models, name) for name in (a, b)))
    call.show(found, lambda: list(_told(found)))


def compare(a: Path, b: Path) -> Json:
    """The differences as JSON."""
    sides = {"a": a, "b": b}
    manifests = {side: releases.manifest(path) for side, path in sides.items()}
    tasks = {side: _tasks(path, manifests[side]) for side, path in sides.items()}
    names = list(dict.fromkeys([*tasks["a"], *tasks["b"]]))
    told = ("at", "step", "epoch", "watermark", "reason", "weights")
    return {
        **{
            side: {"name": path.resolve().name, "path": str(path)} | {key: manifests[side].get(key) for key in told}
            for side, path in sides.items()
        },
        "same_content": manifests["a"]["files"] == manifests["b"]["files"],
        "tasks": {name: _task(tasks["a"].get(name), tasks["b"].get(name)) for name in names},
        "tensors": sorted(_tensors(a, b), key=lambda one: -(one["change"] or 0.0)),
    }  # fmt: skip


def _tasks(path: Path, manifest: Json) -> Json:
    """Kind, columns, labels and scores of every task in a snapshot."""
    try:
        said = finite.loads((path / "tasks.json").read_bytes())
        columns_of = {task: columns for task, _, columns, *_ in said["model"]["heads"]}
        scores = cast("Json", manifest.get("scores") or {})
        return {
            one["spec"]["name"]: {
                "kind": one["spec"]["kind"],
                "columns": columns_of.get(one["spec"]["name"], 0),
                "labels": one["kind"].get("labels") or list(one["spec"]["classes"]),
                "scores": scores.get(one["spec"]["name"]) or {},
            }
            for one in said["registry"]["tasks"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(f"{path / 'tasks.json'} cannot be read: {error!r}") from None


def _task(a: Json | None, b: Json | None) -> Json:
    before, after = a or {}, b or {}
    old, new = before.get("labels", []), after.get("labels", [])
    metrics = dict.fromkeys([*before.get("scores", {}), *after.get("scores", {})])
    return {
        "in": "both" if a and b else "a" if a else "b",
        "columns": [before.get("columns"), after.get("columns")],
        "labels_added": [label for label in new if label not in old],
        "labels_removed": [label for label in old if label not in new],
        "scores": {m: [one.get("scores", {}).get(m) for one in (before, after)] for m in metrics},
    }


def _tensors(a: Path, b: Path) -> Iterator[Json]:
    from safetensors import SafetensorError, safe_open

    opened: Any = safe_open  # has no types
    try:
        with opened(a / FILE, "numpy") as one, opened(b / FILE, "numpy") as two:
            here, there = set[str](one.keys()), set[str](two.keys())
            for name in sorted(here | there):
                old: np.ndarray | None = one.get_tensor(name) if name in here else None
                new: np.ndarray | None = two.get_tensor(name) if name in there else None
                yield {
                    "name": name,
                    "shape": [None if x is None else list(x.shape) for x in (old, new)],
                    "bytes": [None if x is None else int(x.nbytes) for x in (old, new)],
                    "change": None if old is None or new is None else change(old, new),
                }
    except (OSError, SafetensorError) as error:
        raise IntegrityError(f"the tensors of {a} and {b} cannot be read: {error}") from None


def change(old: np.ndarray, new: np.ndarray) -> float | None:
    """|new - old| / |old| over the rows that both have; None where shapes do not allow it, or all of `old` is zero."""
    import numpy as np

    if old.shape != new.shape:
        if not old.ndim or old.ndim != new.ndim or old.shape[1:] != new.shape[1:]:
            return None
        rows = min(len(old), len(new))
        old, new = old[:rows], new[:rows]
    flat, other = old.reshape(-1), new.reshape(-1)
    moved = length = 0.0
    for start in range(0, flat.size, _CHUNK):
        x = flat[start : start + _CHUNK].astype(np.float64)
        moved += float(((other[start : start + _CHUNK] - x) ** 2).sum())
        length += float((x**2).sum())
    found = (moved / length) ** 0.5 if length > 0 else 0.0 if moved == 0 else None
    return found if found is None or np.isfinite(found) else None


def _told(found: Json) -> Iterator[str]:
    for side in ("a", "b"):
        one = found[side]
        yield fit(
            f"{side.upper()} {one['name']}: step {one['step']}, epoch {one['epoch']}, {one['at']}"
        )
    if found["same_content"]:
        yield "both hold the same files"
        return
    yield ""
    yield from columns(list(_task_rows(found["tasks"])), TASKS)
    yield ""
    parameters = [one for one in found["tensors"] if one["name"].startswith(PARAMETERS)]
    moved = [one for one in parameters if one["change"] != 0]
    yield from columns([_tensor_row(one) for one in moved[:SHOWN]], TENSORS)
    if len(moved) > SHOWN:
        yield f"and {len(moved) - SHOWN} more that changed less; -o json has all"


def _task_rows(tasks: Json) -> Iterator[tuple[Any, ...]]:
    for name, one in tasks.items():
        where = {"both": "", "a": " (only A)", "b": " (only B)"}[one["in"]]
        labels = f"+{len(one['labels_added'])} -{len(one['labels_removed'])}"
        for metric, (old, new) in (one["scores"] or {"-": (None, None)}).items():
            delta = None if old is None or new is None else round(new - old, 4) + 0.0
            yield f"{name}{where}", labels, metric, old, new, delta


def _tensor_row(one: Json) -> tuple[Any, ...]:
    old, new = one["shape"]
    shapes = [_shape(shape) for shape in (old, new) if shape is not None]
    told = shapes[0] if len(set(shapes)) == 1 else " -> ".join(shapes)
    if one["change"] is None:
        moved = "new" if old is None else "gone" if new is None else "-"
    else:
        moved = f"{one['change']:.2%}"
    return moved, size(one["bytes"][1] or one["bytes"][0]), told, one["name"]


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
