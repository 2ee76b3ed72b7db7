"""How far does a single row with a weight of 10,000 throw the shared trunk?

A model with the engine's own settings learns Fashion-MNIST in batches of 32 rows, all with weight 1, and then takes a batch
whose first row weighs 10,000. Compared is how far the trunk (what tasks share: encoder and trunk, without heads) is after
that step and 99 more from where it was before, as the L2 distance of all its parameters, with the same run in which that
row weighs 1 like the others. The ratio of the two must be at most 1.5, mean over seeds; `loss` is by how many points the
accuracy on test rows is lower for it at the end.

- `shuffled`: the rows of all ten classes in a random order, the row comes after 300 steps
- `phases`: W1, two classes a phase of 375 steps, the row comes after 500, so that no class is new around it

The row is offered to the replay buffer with its weight like any other, so it may come again.

`--from CHECKOUT` runs the engine of another checkout.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import checkout  # before the engine
import numpy as np
from workloads import images
from workloads.base import BATCH, Workload

from mtl_engine.engine import Engine
from mtl_engine.types import Array

BAR = 1.5
WEIGHT = 1e4
AFTER = 100  # steps, that of the row among them
SHARED = ("model.encoders.", "model.trunk.")
BEFORE = {"shuffled": 300, "phases": 500}  # steps


@dataclass(frozen=True, slots=True)
class End:
    """How far the trunk went, and the accuracy in percent on the test rows of the classes met so far."""

    distance: float
    accuracy: float


def batches(workload: Workload, stream: str, seed: int) -> Iterator[tuple[str, Array, Array]]:
    """Rows of 32 with the name of their phase, which in a shuffled stream is always the same one."""
    draw = np.random.default_rng([seed, 4])
    parts = [(phase.name, phase.x, phase.y) for phase in workload.phases]
    if stream == "shuffled":
        _, x, y = zip(*parts, strict=True)
        parts = [("all", np.concatenate(x), np.concatenate(y))]
    for name, x, y in parts:
        order = draw.permutation(len(y))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            mine = order[start : start + BATCH]
            yield name, x[mine], y[mine]


def trunk(engine: Engine) -> Array:
    """All parameters that tasks share, in one vector."""
    tensors = engine.state_dict().tensors
    mine = [name for name in tensors if name.startswith(SHARED)]
    return np.concatenate([tensors[name].detach().cpu().numpy().ravel() for name in mine])


def run(workload: Workload, stream: str, seed: int, weight: float) -> End:
    """One run, in which the first row of one batch has this weight."""
    (spec,) = workload.tasks
    engine = Engine.from_config({**workload.engine, "seed": seed, "num_threads": 1})
    engine.add_task(spec)
    before, start, weight_B = BEFORE[stream], np.zeros(0, np.float32), np.ones(BATCH, np.float32)
    weight_B[0] = weight
    rows = islice(batches(workload, stream, seed), before + AFTER)
    for step, (phase, x, y) in enumerate(rows):
        if engine.focus != (spec.name, phase):
            engine.switch_task(spec.name, phase)
        if step == before:
            start = trunk(engine)
        engine.observe(spec.name, x, y, weight=weight_B if step == before else None)
    distance = float(np.linalg.norm(trunk(engine) - start))
    return End(distance, accuracy(engine, workload))


def accuracy(engine: Engine, workload: Workload) -> float:
    """In percent, on the test rows of the classes that have come."""
    (told,) = engine.describe()["tasks"]
    x = np.concatenate([phase.test_x for phase in workload.phases])
    y = np.concatenate([phase.test_y for phase in workload.phases])
    met = np.isin(y, told["classes"])
    return 100 * float((np.asarray(engine.predict(told["name"], x[met])) == y[met]).mean())


def told(plain: list[End], heavy: list[End]) -> dict[str, Any]:
    """The ratio, mean over seeds and each, and what it is made of."""
    ratios = [b.distance / a.distance for a, b in zip(plain, heavy, strict=True)]
    losses = [a.accuracy - b.accuracy for a, b in zip(plain, heavy, strict=True)]
    return {
        "ratio": round(float(np.mean(ratios)), 3),
        "ratio_each": [round(one, 3) for one in ratios],
        "within_bar": float(np.mean(ratios)) <= BAR,
        "within_bar_seeds": sum(one <= BAR for one in ratios),
        "distance": round(float(np.mean([one.distance for one in plain])), 3),
        "distance_heavy": round(float(np.mean([one.distance for one in heavy])), 3),
        "accuracy": round(float(np.mean([one.accuracy for one in plain])), 2),
        "loss": round(float(np.mean(losses)), 2),
        "loss_each": [round(one, 2) for one in losses],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", nargs="+", choices=BEFORE, default=list(BEFORE))
    parser.add_argument("--weight", type=float, default=WEIGHT, help="of the row")
    options = checkout.parsed(parser, seeds=5)
    workload = images.split_fashion("test")
    line: dict[str, Any] = {"seeds": options.seeds, "weight": options.weight, "bar": BAR}
    for name in options.streams:
        seeds = range(options.seed, options.seed + options.seeds)
        plain, heavy = (
            [run(workload, name, seed, weight) for seed in seeds]
            for weight in (1.0, options.weight)
        )
        line[name] = told(plain, heavy)
        print(name, line[name], flush=True)
    checkout.finish("heavy_row", line, options.save)


if __name__ == "__main__":
    main()
