"""How good is the first task still when its stream comes back after four other phases?

Five phases and then the first one again (its rows in another order), through the engine with the default strategy and a
buffer of 500 rows, in three kinds of stream:

- `classes`: W1, two classes of Fashion-MNIST a phase, one growing head; scored among all classes met so far
- `classes_told`: the same run, scored among the first phase's own two classes, as where the asker knows the task
- `tasks`: the same five pairs of classes as five tasks, each with its own head
- `inputs`: W3, all ten classes in every phase, each phase with a pixel order of its own; one head

All scores are accuracies in percent on all test rows of the first phase. best = the highest before the stream comes back, taken
every so many steps and at the ends of phases; left = when its phase ended; retained = before the first row of the second
visit; back = when that has ended. The bar is that `retained` is at most 5 points below `best`. In `classes` the head has two
classes when it is best and ten later; `joint` is what the same net scores after the rows of all five phases, shuffled.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import methods
import numpy as np
from report import finish
from scoring import Examiner
from training import turns
from workloads import images
from workloads.base import SPLITS, Workload

from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec

BAR = 5.0  # points
OFTEN, OFTEN_STEPS = 5, 100  # how often scores are taken when the stream comes back, and how long
Score = Callable[[Engine], float]


@dataclass(frozen=True, slots=True)
class Visit:
    """One run; `steps` of the second visit until a score is within the bar of the best, None where none was."""

    best: float
    left: float
    retained: float
    back: float
    steps: int | None


def returning(workload: Workload) -> Workload:
    """The stream, and then its first phase again."""
    return replace(workload, phases=(*workload.phases, workload.phases[0]))


def split_tasks(split: str) -> Workload:
    """W1's phases as tasks of their own."""
    workload = images.split_fashion(split)
    phases = tuple(
        replace(phase, task=f"pair{number}") for number, phase in enumerate(workload.phases)
    )
    return replace(workload, tasks=tuple(TaskSpec(one.task) for one in phases), phases=phases)


def among_own(workload: Workload) -> Score:
    """Accuracy on the first phase's test rows of the likeliest of its own labels."""
    phase = workload.phases[0]
    x, y = phase.test(slice(None))
    own = np.unique(phase.test_y)

    def score(engine: Engine) -> float:
        tasks: list[dict[str, Any]] = engine.describe()["tasks"]
        labels = np.array(next(one["classes"] for one in tasks if one["name"] == phase.task))
        p_BC = engine.predict_proba(phase.task, x)
        columns = np.flatnonzero(np.isin(labels, own))
        return 100 * float(np.mean(np.equal(labels[columns][p_BC[:, columns].argmax(1)], y)))

    return score


def whole(workload: Workload) -> Score:
    """Accuracy on the first phase's test rows as the engine answers."""
    examiner = Examiner(workload)
    return lambda engine: examiner.whole(engine, 0)


def run(
    workload: Workload, settings: Mapping[str, Any], seed: int, scores: Mapping[str, Score]
) -> dict[str, Visit]:
    """One pass over a stream that comes back, watched by several scores."""
    engine = Engine.from_config({**workload.engine, **settings, "seed": seed})
    last = len(workload.phases) - 1
    taken: dict[str, list[tuple[int, int, float]]] = {name: [] for name in scores}
    again = 0  # steps of the second visit
    for step, turn in enumerate(turns(engine, workload, seed), start=1):
        turn.train()
        again += turn.phase == last
        is_soon = 0 < again <= OFTEN_STEPS and again % OFTEN == 0
        if step % workload.every == 0 or turn.ends or is_soon:
            for name, score in scores.items():
                taken[name].append((turn.phase, again, score(engine)))
    return {name: visit(found, last) for name, found in taken.items()}


def joint(workload: Workload, settings: Mapping[str, Any], seed: int, score: Score) -> float:
    """The score after one pass over the rows of all phases, shuffled."""
    engine = Engine.from_config({**workload.engine, **settings, "seed": seed})
    for turn in turns(engine, workload, seed, joint=True):
        turn.train()
    return score(engine)


def visit(taken: list[tuple[int, int, float]], last: int) -> Visit:
    """What the scores of one run say; each comes with its phase and the steps of the second visit."""
    before = [score for phase, _, score in taken if phase < last]
    best = max(before)
    return Visit(
        best=best,
        left=[score for phase, _, score in taken if phase == 0][-1],
        retained=before[-1],
        back=taken[-1][2],
        steps=next((again for phase, again, score in taken if phase == last and best - score <= BAR), None),
    )  # fmt: skip


def told(visits: list[Visit]) -> dict[str, Any]:
    """Means over seeds with every seed's own numbers; the bar counts for the mean, and the worst seed is told."""
    below = [one.best - one.retained for one in visits]
    found: dict[str, Any] = {
        name: round(float(np.mean([getattr(one, name) for one in visits])), 2)
        for name in ("best", "left", "retained", "back")
    }
    found["below_best"] = round(float(np.mean(below)), 2)
    found["below_best_worst"] = round(max(below), 2)
    found["below_best_when_back"] = round(float(np.mean([one.best - one.back for one in visits])), 2)  # fmt: skip
    found["within_bar"] = float(np.mean(below)) <= BAR
    found["within_bar_seeds"] = sum(one <= BAR for one in below)
    found["steps_until_within_bar"] = [
        0 if gap <= BAR else one.steps for gap, one in zip(below, visits, strict=True)
    ]
    found["per_seed"] = {
        "best": [round(one.best, 2) for one in visits],
        "retained": [round(one.retained, 2) for one in visits],
        "back": [round(one.back, 2) for one in visits],
    }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="one JSON line and nothing else")
    parser.add_argument("--save", action="store_true", help="write benchmarks/results/")
    given = parser.parse_args()
    if given.save and given.split != "test":
        parser.error("--save keeps results on test rows: leave out --split validation, or --save")
    classes, tasks, inputs = (
        returning(made(given.split))
        for made in (images.split_fashion, split_tasks, images.permuted_fashion)
    )
    streams: list[tuple[Workload, dict[str, Score]]] = [
        (classes, {"classes": whole(classes), "classes_told": among_own(classes)}),
        (tasks, {"tasks": whole(tasks)}),
        (inputs, {"inputs": whole(inputs)}),
    ]
    settings: dict[str, Any] = {
        **methods.settings("W1", "default"),
        "num_threads": given.threads,
    }
    figures: dict[str, Any] = {
        "bar_points": BAR, "strategy": "default", "split": given.split, "seeds": given.seeds, "settings": settings,
    }  # fmt: skip
    for workload, scores in streams:
        runs = [run(workload, settings, seed, scores) for seed in range(given.seeds)]
        for name in scores:
            figures[name] = told([one[name] for one in runs])
            if name == "classes":
                once = replace(workload, phases=workload.phases[:-1])
                ceiling = [joint(once, settings, seed, scores[name]) for seed in range(given.seeds)]
                figures[name]["joint"] = round(float(np.mean(ceiling)), 2)
            if not given.json:
                print({name: figures[name]}, flush=True)
    finish("revisit", figures, given.save)


if __name__ == "__main__":
    main()
