"""Is a probability one? Mean P of a class against its true rate, calibration error, and what the decision keeps.

Engines with default settings learn a data set in rows of 32, of which 5 % are held out. The snapshot's `predict_proba` is
then compared with rows that were never sent: the mean of P of every class with the class's rate (`gap`, the mean over the
classes; `worst_gap`, the largest; `signed_gap`, of the rarest class; `bias`, the mean over classes of the distance that is
left when a class's gaps are averaged over the seeds), and the expected calibration error of the most
probable class (of the rarer one of two, of every label where rows have several) over 10 bins of equal mass, with a bootstrap
interval; `ece_of_truth` and `gap_of_truth` are what they are, on as many rows, where labels are drawn by these very probabilities. `before` is the softmax of the outputs as they
are, which is a probability only if every class came as often as the others. `macro_recall` is that of the decision, which
is balanced, and of the other one. The exports' probabilities are compared with `predict_proba` on the test rows.

Data: card defaults (3.33 % yes), sentiment, letters, attributes of letters (several labels a row), each parted anew with
every seed; and the demo's stream of digits, intents and tumours in phases, with its own test rows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from report import finish
from workloads import sources
from workloads.base import BATCH

from daemon.demo import data as demo
from mtl_engine import export, snapshot
from mtl_engine.calibration import AS_TRAINED
from mtl_engine.engine import Engine
from mtl_engine.snapshot import SnapshotModel
from mtl_engine.types import Array, Target, TaskSpec

HELD_OUT = 0.05
DRAWS = 20
ECE_BAR, GAP_BAR, EXPORT_BAR = 0.05, 0.005, 1e-5
FEW_CLASSES = 3
GROUPS = ("AEIOU", "BCDGJOPQRSU", "AHIMOTUVWXY", "HINOSXZ")  # vowels, round, mirrored, turned

Part = tuple[str, Array, Any]
"""Rows of a task: its name, inputs and labels."""


@dataclass(frozen=True, slots=True)
class Data:
    """Tasks, phases of rows that are sent, and rows that are not."""

    specs: tuple[TaskSpec, ...]
    phases: tuple[Part, ...]
    tests: tuple[Part, ...]


def _single(spec: TaskSpec, x: Array, y: Array, share: float, seed: int) -> Data:
    order = np.random.default_rng([seed, 1]).permutation(len(y))
    cut = int(share * len(y))
    sent, kept = order[cut:], order[:cut]
    return Data((spec,), ((spec.name, x[sent], y[sent]),), ((spec.name, x[kept], y[kept]),))


def defaults(seed: int) -> Data:
    x, y = sources.card_defaults()
    return _single(TaskSpec("default", "table"), x, np.array(y, object), 0.25, seed)


def sentiment(seed: int) -> Data:
    foods = sources.fine_foods()
    x, y = np.array(foods[0] + foods[2], object), np.array(foods[1] + foods[3], object)
    return _single(TaskSpec("sentiment", "text"), x, y, 0.2, seed)


def letters(seed: int) -> Data:
    x, y = sources.keel("letter")
    return _single(TaskSpec("letter", "table"), x, np.array(y, object), 0.25, seed)


def attributes(seed: int) -> Data:
    x, y = sources.keel("letter")
    y_NC = np.stack([np.isin(y, list(group)) for group in GROUPS], 1).astype(np.uint8)
    return _single(TaskSpec("attributes", "table", "multilabel"), x, y_NC, 0.25, seed)


def of_demo(_: int) -> Data:
    """The same rows for every seed, in another order."""
    phases = demo.phases()
    modalities = {"digits": "image", "intents": "text", "tumours": "table"}
    parts = [(p.task, _array(p.x), np.array(p.y)) for p in phases]
    tests: list[Part] = []
    for task in modalities:
        mine = [(_array(p.test_x), np.array(p.test_y)) for p in phases if p.task == task]
        tests.append((task, *(np.concatenate(one) for one in zip(*mine, strict=True))))
    specs = tuple(TaskSpec(task, modality) for task, modality in modalities.items())
    return Data(specs, tuple(parts), tuple(tests))


def _array(x: Any) -> Array:
    return x if isinstance(x, np.ndarray) else np.array(x, object)


SETS: dict[str, Callable[[int], Data]] = {
    "default": defaults,
    "sentiment": sentiment,
    "letter": letters,
    "attributes": attributes,
    "demo": of_demo,
}


def batches(data: Data, seed: int, passes: int) -> Iterator[Part]:
    """The stream: every pass through the phases in another order of their rows."""
    draw = np.random.default_rng([seed, 2])
    for _ in range(passes):
        for task, x, y in data.phases:
            order = draw.permutation(len(y))
            for start in range(0, len(y), BATCH):
                row_B = order[start : start + BATCH]
                yield task, x[row_B], y[row_B]


def trained(data: Data, seed: int, passes: int, strategy: str) -> Engine:
    """An engine with default settings; a row is held out in every pass or in none."""
    engine = Engine(seed=seed, strategy=strategy)
    for spec in data.specs:
        engine.add_task(spec)
    draw = np.random.default_rng([seed, 3])
    held: dict[bytes, bool] = {}
    for task, x, y in batches(data, seed, passes):
        is_held_B = np.array([held.setdefault(_key(row), draw.random() < HELD_OUT) for row in x])
        for chosen, take in ((is_held_B, engine.hold_out), (~is_held_B, engine.observe)):
            if chosen.any():
                take(task, _words(x[chosen]), _words(y[chosen]))
    return engine


def _key(row: Any) -> bytes:
    return row.encode() if isinstance(row, str) else np.asarray(row).tobytes()


def _words(values: Array) -> Any:
    return values if values.dtype.kind in "iuf" else values.tolist()


def measured(model: SnapshotModel, test: Part, seed: int) -> dict[str, Any]:
    """Figures of one task on its test rows."""
    name, x, y = test
    kind, (rows, target) = (
        model.registry[name].kind,
        model.registry.check(name, *map(_words, (x, y))),
    )
    z_HC = model(name, _words(x))
    found: dict[str, Any] = {"test_rows": len(rows)}
    for when, how in (("before", AS_TRAINED), ("after", model.calibration(name))):
        moved_HC = how.moved(z_HC)
        p_HC = kind.probabilities(moved_HC).astype(np.float64)
        if target.y.ndim == 1:
            rate_C = np.bincount(target.y[target.y >= 0], minlength=p_HC.shape[1]) / len(target.y)
        else:
            rate_C = target.y.mean(0)
        gap_C = p_HC.mean(0) - rate_C
        bins = kind.reliability(moved_HC, target)
        assert bins is not None
        found[when] = {
            "mean_p": p_HC.mean(0).round(4).tolist() if len(gap_C) <= FEW_CLASSES + 1 else None,
            "rate": rate_C.round(4).tolist() if len(gap_C) <= FEW_CLASSES + 1 else None,
            "gaps": gap_C,
            "gap": float(np.abs(gap_C).mean()),
            "signed_gap": float(gap_C[rate_C.argmin()]),  # of the rarest class
            "worst_gap": float(np.abs(gap_C).max()),
            "ece": bins.error(),
            "ece_interval": bins.interval(seed, name),
            **_of_truth(p_HC, target, model, name),
            "macro_recall": kind.scores(moved_HC, target)["macro_recall"],
        }
    decided, raw = model.predict(name, _words(x)), kind.predict(z_HC)
    found["decision_unchanged"] = bool((decided == raw).all())
    found["temperature"] = model.calibration(name).temperature
    found["in_manifest"] = model.manifest["probabilities"].get(name)
    return found


def _of_truth(p_HC: Array, target: Target, model: SnapshotModel, name: str) -> dict[str, float]:
    """The mean errors of the same probabilities over draws of labels that they are the truth of."""
    draw, errors, gaps = np.random.default_rng(0), list[float](), list[float]()
    for _ in range(DRAWS):
        if target.y.ndim == 1:
            y_H = (p_HC.cumsum(1) < draw.random((len(p_HC), 1))).sum(1)
            drawn = Target(np.minimum(y_H, p_HC.shape[1] - 1))
            rate_C = np.bincount(drawn.y, minlength=p_HC.shape[1]) / len(p_HC)
            moved_HC = torch.from_numpy(np.log(np.maximum(p_HC, 1e-30)))
        else:
            drawn = Target((draw.random(p_HC.shape) < p_HC).astype(np.uint8))
            rate_C = drawn.y.mean(0)
            moved_HC = torch.from_numpy(
                np.log(np.maximum(p_HC, 1e-15) / np.maximum(1 - p_HC, 1e-15))
            )
        bins = model.registry[name].kind.reliability(moved_HC, drawn)
        errors.append((bins.error() if bins is not None else None) or 0.0)
        gaps.append(float(np.abs(p_HC.mean(0) - rate_C).mean()))
    return {"ece_of_truth": float(np.mean(errors)), "gap_of_truth": float(np.mean(gaps))}


def exported(model: SnapshotModel, data: Data, folder: Path) -> float:
    """The largest difference of any probability of the exports from `predict_proba`, on test rows of all tasks."""
    worst = 0.0
    for format in ("torch-export", "onnx"):
        export.export(model, folder / format, format)
        for name, x, _ in data.tests:
            rows = model.registry.check(name, _words(x))[0]
            inputs = {"x": rows.x} if rows.length is None else {"x": rows.x, "length": rows.length}
            found = _run(folder / format, name, inputs)
            worst = max(worst, float(np.abs(found - model.predict_proba(name, _words(x))).max()))
    return worst


def _run(folder: Path, name: str, inputs: dict[str, Array]) -> Array:
    if folder.name == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / f"{name}.onnx")
        return session.run(["probabilities"], inputs)[0]
    module = torch.export.load(folder / f"{name}.pt2").module()  # noqa: TID251  (written just now)
    return module(*map(torch.from_numpy, inputs.values()))[1].detach().numpy()


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Of one task over the seeds: means, the worst, and the seeds one by one."""
    found: dict[str, Any] = {"test_rows": runs[0]["test_rows"]}
    for when in ("before", "after"):
        mine = [run[when] for run in runs]
        found[when] = {
            key: round(float(np.mean([one[key] for one in mine])), 5)
            for key in (
                "gap", "gap_of_truth", "signed_gap", "worst_gap", "ece", "ece_of_truth", "macro_recall"
            )
        }  # fmt: skip
        bias_C = np.mean([one["gaps"] for one in mine], 0)
        found[when]["bias"] = round(float(np.abs(bias_C).mean()), 5)
        found[when]["ece_each"] = [round(one["ece"], 4) for one in mine]
        found[when]["ece_interval_each"] = [
            [round(end, 4) for end in one["ece_interval"]] for one in mine
        ]
        found[when]["signed_gap_each"] = [round(one["signed_gap"], 4) for one in mine]
    found["temperature_each"] = [round(run["temperature"], 3) for run in runs]
    found["decision_unchanged"] = all(run["decision_unchanged"] for run in runs)
    found["first_seed"] = {key: runs[0]["after"][key] for key in ("mean_p", "rate")}
    found["first_seed"]["manifest"] = runs[0]["in_manifest"]
    found["within_ece_bar"] = found["after"]["ece"] <= ECE_BAR
    found["within_gap_bar"] = found["after"]["bias"] <= GAP_BAR
    return found


def measure(name: str, seeds: range, passes: int, strategy: str) -> dict[str, Any]:
    """All tasks of a data set."""
    runs: dict[str, list[dict[str, Any]]] = {}
    difference = 0.0
    for seed in seeds:
        data = SETS[name](seed)
        with tempfile.TemporaryDirectory() as folder:
            trained(data, seed, passes, strategy).snapshot(Path(folder) / "v")
            model = snapshot.load(Path(folder) / "v")
            if seed == seeds[0]:
                difference = exported(model, data, Path(folder))
        for test in data.tests:
            runs.setdefault(test[0], []).append(measured(model, test, seed))
    of_tasks = {task: told(mine) for task, mine in runs.items()}
    return {"export_difference": difference, "within_export_bar": difference <= EXPORT_BAR, **of_tasks}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first")
    parser.add_argument("--passes", type=int, nargs="+", default=[1, 3], help="through the rows")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--strategy", default="default")
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    options = parser.parse_args()
    seeds = range(options.seed, options.seed + options.seeds)
    figures: dict[str, Any] = {"bars": {"ece": ECE_BAR, "gap": GAP_BAR, "export": EXPORT_BAR}}
    figures |= {"seeds": list(seeds), "strategy": options.strategy}
    for passes in options.passes:
        of_passes: dict[str, Any] = {}
        for name in options.sets:
            of_passes[name] = measure(name, seeds, passes, options.strategy)
            if not options.json:
                print(passes, name, of_passes[name], flush=True)
        figures[f"passes_{passes}"] = of_passes
    finish("probabilities", figures, options.save)


if __name__ == "__main__":
    main()
