"""Is a gap published? What the published and the live weights know of the old while something new is learned.

A model that learns something new first loses, for some steps, what it knew, and finds it again (the stability gap, De Lange
et al. 2023, arXiv 2205.13452). Here the published (averaged) and the live weights of one run are scored every 10 steps for
200 steps after each growth, which is where a phase with new classes begins, then every 50, and at the ends of phases:

- `W1`: Split-Fashion-MNIST, five phases of two classes, 375 steps each
- `mnist`: the same phases with 5,000 images of MNIST, 25 steps each
- `classes`: 500 classes of made rows (normal clusters, `workloads/made.py`), a new one every 50 steps, its rows alone,
  unannounced, with a buffer of 5,000 rows, where the published weights must be at least 1 point better after growth

All scores are accuracies in percent on all test rows of a phase, among all classes met so far; min-ACC, WC-ACC, accuracy
and forgetting are those of `scoring.py`. `after_growth` is the mean over the evaluations in the 200 steps after a growth of
the accuracy on the older phases, `lead` by how many points the published weights are better there, also by part of the
stream. `dip` is how far the older phases' accuracy falls below both what it was before a growth and what it is at the last
of those evaluations, mean over growths: 0 where there is no gap. A class of `classes` has 10 test rows, so the lowest of
its scores is low by chance.

`--from CHECKOUT` runs the engine of another checkout.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from time import monotonic
from typing import Any

import checkout  # before the engine
import numpy as np
from scoring import Curve, numbers
from training import turns
from workloads import images, made
from workloads.base import Workload

from mtl_engine.engine import Engine
from mtl_engine.evaluate import outputs
from mtl_engine.types import Array

BAR = 1.0  # points that the published weights are better by
SOON, SOON_STEPS, LATER = 10, 200, 50
PARTS = 5
NUMBERS = ("min_acc", "wc_acc", "accuracy", "forgetting")
WEIGHTS = ("published", "live")
STREAMS: dict[str, Callable[[int], Workload]] = {
    "W1": lambda _: images.split_fashion("test"),
    "mnist": lambda _: images.split_mnist5k("test"),
    "classes": made.clusters,
}


@dataclass(frozen=True, slots=True)
class Seen:
    """One evaluation: `since` the phase began, and by weights the accuracy on each phase that has begun."""

    step: int
    phase: int
    since: int
    ends: bool
    accuracy: dict[str, Array]

    def old(self, weights: str) -> float:
        """Accuracy on the older phases."""
        return float(self.accuracy[weights][:-1].mean())


class Watcher:
    """Scores both weights on the test rows of a workload of one task; nothing of the engine changes by it."""

    def __init__(self, workload: Workload) -> None:
        (spec,) = workload.tasks
        self.task = spec.name
        counts = [len(phase.test_y) for phase in workload.phases]
        self._end = np.cumsum(counts)
        self._phase = np.repeat(np.arange(len(counts)), counts)
        self._x = np.concatenate([phase.test_x for phase in workload.phases])
        self._y = np.concatenate([phase.test_y for phase in workload.phases])

    def accuracy(self, engine: Engine, known: int) -> dict[str, Array]:
        """By weights, the accuracy in percent on each of the first `known` phases."""
        trainer = engine._trainer  # pyright: ignore[reportPrivateUsage]
        told: list[dict[str, Any]] = engine.describe()["tasks"]
        labels = np.array(next(one["classes"] for one in told if one["name"] == self.task))
        mine = slice(0, self._end[known - 1])
        rows, _ = trainer.registry.check(self.task, self._x[mine])
        count_K = np.bincount(self._phase[mine])
        found: dict[str, Array] = {}
        for name, weights in zip(WEIGHTS, (trainer.weights(), {}), strict=True):
            column_N = outputs(trainer.model, weights, self.task, rows).argmax(1).numpy()
            right_N = labels[column_N] == self._y[mine]
            found[name] = 100 * np.bincount(self._phase[mine], weights=right_N) / count_K
        return found


def run(workload: Workload, seed: int, soon: int = SOON) -> list[Seen]:
    """One pass with the engine's own settings, watched."""
    engine = Engine.from_config({**workload.engine, "seed": seed, "num_threads": 1})
    watcher, seen, since = Watcher(workload), list[Seen](), 0
    for step, turn in enumerate(turns(engine, workload, seed), start=1):
        turn.train()
        since += 1
        if turn.ends or since % (soon if since <= SOON_STEPS else LATER) == 0:
            accuracy = watcher.accuracy(engine, turn.phase + 1)
            seen.append(Seen(step, turn.phase, since, turn.ends, accuracy))
        since *= not turn.ends
    return seen


def literature(seen: list[Seen], weights: str) -> dict[str, float]:
    """Numbers of the literature; nothing is known of a phase before it begins."""
    count = seen[-1].phase + 1
    matrix, curve = np.full((count, count), np.nan), Curve()
    for one in seen:
        known = one.accuracy[weights]
        curve.step.append(one.step)
        curve.accuracy.append([*known.tolist(), *[None] * (count - len(known))])
        if one.ends:
            curve.ends.append(one.step)
            matrix[one.phase, : len(known)] = known
    found = numbers(matrix, [0.0] * (count - 1), curve)
    return {name: value for name in NUMBERS if (value := found[name]) is not None}


def grown(seen: list[Seen]) -> list[list[Seen]]:
    """For every growth what was seen at the end of the phase before and then within 200 steps."""
    found: list[list[Seen]] = []
    for one in seen:
        if found and one.since <= SOON_STEPS:
            found[-1].append(one)
        if one.ends:
            found.append([one])
    return [growth for growth in found if len(growth) > 1]


def dip(growth: list[Seen], weights: str) -> float:
    """Points by which the older phases' accuracy is lower in between than at both ends."""
    before, *after = growth
    score = [float(before.accuracy[weights].mean()), *(one.old(weights) for one in after)]
    return min(score[0], score[-1]) - min(score)


def figures(seen: list[Seen]) -> dict[str, Any]:
    """All numbers of one run."""
    growths = grown(seen)
    found: dict[str, Any] = {}
    for weights in WEIGHTS:
        old = [one.old(weights) for _, *after in growths for one in after]
        found[weights] = {
            **literature(seen, weights),
            "after_growth": float(np.mean(old)),
            "dip": float(np.mean([dip(growth, weights) for growth in growths])),
        }
    found["lead"] = lead(growths)
    found["lead_by_part"] = [lead(growths[part]) for part in parts(len(growths))]
    return found


def parts(count: int) -> list[slice]:
    """Five stretches of the growths, or one for each where they are fewer."""
    cut = np.linspace(0, count, min(PARTS, count) + 1).astype(int).tolist()
    return [slice(start, end) for start, end in pairwise(cut)]


def lead(growths: list[list[Seen]]) -> float:
    """Points by which the published weights know more of the older phases, after some growths."""
    points = [one.old("published") - one.old("live") for _, *after in growths for one in after]
    return float(np.mean(points))


def told(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over seeds, and every seed's own numbers."""
    found: dict[str, Any] = {}
    for weights in WEIGHTS:
        each = {key: [round(one[weights][key], 2) for one in runs] for key in runs[0][weights]}
        means = {key: round(float(np.mean(values)), 2) for key, values in each.items()}
        found[weights] = {**means, "per_seed": each}
    found["lead"] = round(float(np.mean([one["lead"] for one in runs])), 2)
    found["lead_each"] = [round(one["lead"], 2) for one in runs]
    found["lead_by_part"] = np.mean([one["lead_by_part"] for one in runs], 0).round(2).tolist()
    return found


def measured(name: str, seeds: range, soon: int) -> dict[str, Any]:
    """One stream over some seeds, with the seconds that a seed takes."""
    begun_s, runs, ceilings = monotonic(), list[dict[str, Any]](), list[float]()
    for seed in seeds:
        workload = STREAMS[name](seed)
        runs.append(figures(run(workload, seed, soon)))
        if "ceiling" in workload.data:
            ceilings.append(workload.data["ceiling"])
    found = told(runs)
    if ceilings:
        found["ceiling"] = round(float(np.mean(ceilings)), 2)
        found["within_bar"] = found["lead"] >= BAR
    return {**found, "seconds_a_seed": round((monotonic() - begun_s) / len(seeds))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--soon", type=int, default=SOON, help="steps between two scores after growth")  # fmt: skip
    options = checkout.parsed(parser, seeds=3)
    line: dict[str, Any] = {"seeds": options.seeds, "bar_points": BAR}
    for name in options.streams:
        seeds = range(options.seed, options.seed + options.seeds)
        line[name] = measured(name, seeds, options.soon)
        print(name, line[name], flush=True)
    checkout.finish("gap", line, options.save)


if __name__ == "__main__":
    main()
