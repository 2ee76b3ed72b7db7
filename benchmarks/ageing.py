"""How many rows until the published model knows what is new, in a model that is 100, 2,000 or 20,000 steps old?

Letters without C and M and digits of MNIST without 3 and 8 are learned, over and over; states are kept at each age. From
each of them the rows of the two classes that were left out come, or (`task`) those of a new task, satimage's first four
classes, in rows of 32. The published model is scored after every step on test rows of the new. Reached is a score that
three steps in a row have: half of, or nine tenths of, what it is in the end. `old` is the accuracy on the old rows before, and
`old_loss` by how many points it is lower in the end.

`--from CHECKOUT` runs the engine of another checkout.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import mean
from typing import TYPE_CHECKING, Any

import checkout  # before the engine
import numpy as np
from workloads import sources

from mtl_engine.engine import Engine
from mtl_engine.types import TaskSpec

if TYPE_CHECKING:
    from mtl_engine.types import Array

BATCH, STEPS, DENSE, EVERY = 32, 160, 60, 4
SHARE = 0.25  # of test rows
HALF, MOST, IN_A_ROW, AT_THE_END = 0.5, 0.9, 3, 4

Part = tuple["Array", "Array"]


@dataclass(frozen=True, slots=True)
class Stream:
    """Old and new rows, to learn and to test, each with its task."""

    old: tuple[str, str, Part, Part]  # task, modality, rows to learn, rows to test
    new: tuple[str, str, Part, Part]


def _parted(x: Array, y: Array, chosen: Array, order: Array) -> tuple[Part, Part]:
    mine = order[chosen[order]]
    cut = int(SHARE * len(mine))
    return (x[mine[cut:]], y[mine[cut:]]), (x[mine[:cut]], y[mine[:cut]])


def _by_class(modality: str, x: Array, y: Array, held_back: Array, seed: int) -> Stream:
    order = np.random.default_rng([seed, 1]).permutation(len(y))
    new = np.isin(y, held_back)
    return Stream(
        ("old", modality, *_parted(x, y, ~new, order)),
        ("old", modality, *_parted(x, y, new, order)),
    )


def letters(seed: int) -> Stream:
    x, y = sources.keel("letter")
    return _by_class("table", x, np.array(y), np.array(["C", "M"]), seed)


def digits(seed: int) -> Stream:
    return _by_class("image", *sources.mnist5k(), np.array([3, 8]), seed)


def new_task(seed: int) -> Stream:
    """Letters, then satimage's first four classes as another task."""
    x, y = sources.keel("satimage")
    y = np.array(y)
    chosen = np.isin(y, np.unique(y)[:4])
    order = np.random.default_rng([seed, 1]).permutation(len(y))
    return Stream(letters(seed).old, ("new", "table", *_parted(x, y, chosen, order)))


STREAMS: dict[str, Callable[[int], Stream]] = {
    "letter": letters,
    "mnist": digits,
    "task": new_task,
}


def batches(part: Part, seed: int) -> Iterator[tuple[Array, Any]]:
    """Rows of 32, in another order every time they are through."""
    x, y = part
    draw = np.random.default_rng([seed, 2])
    while True:
        order = draw.permutation(len(y))
        for start in range(0, len(order) - BATCH + 1, BATCH):
            mine = order[start : start + BATCH]
            yield x[mine], y[mine].tolist()


def engine(stream: Stream, seed: int) -> Engine:
    made = Engine(seed=seed, num_threads=1)
    for name, modality in {part[0]: part[1] for part in (stream.old, stream.new)}.items():
        made.add_task(TaskSpec(name, modality))
    return made


def aged(stream: Stream, seed: int, ages: list[int]) -> dict[int, Any]:
    """States at every age of one run over the old rows."""
    learner, states = engine(stream, seed), {}
    task, _, rows, _ = stream.old
    for step, (x, y) in enumerate(batches(rows, seed), start=1):
        learner.observe(task, x, y)
        if step in ages:
            states[step] = copy.deepcopy(learner.state_dict())  # its tensors are live
        if step >= max(ages):
            return states
    return states


def accuracy(of: Engine, task: str, test: Part) -> float:
    return 100 * float((np.asarray(of.predict(task, test[0])) == test[1]).mean())


def continued(stream: Stream, state: Any, seed: int) -> dict[str, float | None]:
    """What the new rows do to a model of that age."""
    learner = engine(stream, seed)
    learner.load_state_dict(state)
    (old_task, _, _, old_test), (task, _, rows, test) = stream.old, stream.new
    before = accuracy(learner, old_task, old_test)
    scores: list[tuple[int, float]] = []
    for step, (x, y) in zip(range(1, STEPS + 1), batches(rows, seed), strict=False):
        learner.observe(task, x, y)
        if step <= DENSE or step % EVERY == 0:
            scores.append((step * BATCH, accuracy(learner, task, test)))
    end = mean(score for _, score in scores[-AT_THE_END:])
    return {
        "half": reached(scores, HALF * end),
        "most": reached(scores, MOST * end),
        "new": end,
        "old": before,
        "old_loss": before - accuracy(learner, old_task, old_test),
    }


def reached(scores: list[tuple[int, float]], bar: float) -> float | None:
    """Rows after which three scores in a row are at the bar; None if they never are."""
    for first in range(len(scores) - IN_A_ROW + 1):
        if all(score >= bar for _, score in scores[first : first + IN_A_ROW]):
            return scores[first][0]
    return None


def told(runs: list[dict[str, float | None]]) -> dict[str, Any]:
    """Means over the seeds; rows that were not reached by all of them are None."""
    found: dict[str, Any] = {}
    for key in runs[0]:
        values = [run[key] for run in runs]
        known = [value for value in values if value is not None]
        found[key] = round(mean(known), 1) if len(known) == len(values) else None
    return found | {"most_each": [run["most"] for run in runs]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--ages", type=int, nargs="+", default=[100, 2000, 20_000])
    options = checkout.parsed(parser, seeds=5)
    figures: dict[str, Any] = {"seeds": options.seeds}
    for name in options.streams:
        runs: dict[int, list[dict[str, float | None]]] = {age: [] for age in options.ages}
        for seed in range(options.seed, options.seed + options.seeds):
            stream = STREAMS[name](seed)
            for age, state in aged(stream, seed, options.ages).items():
                runs[age].append(continued(stream, state, seed))
        figures[name] = {str(age): told(mine) for age, mine in runs.items()}
        print(name, figures[name], flush=True)
    checkout.finish("ageing", figures, options.save)


if __name__ == "__main__":
    main()
