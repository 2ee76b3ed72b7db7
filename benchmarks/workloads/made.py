"""Rows that are made, not collected: a cluster a class, in a stream far longer than any data set here has classes for."""

from __future__ import annotations

import numpy as np

from mtl_engine.types import Array, TaskSpec
from workloads.base import BATCH, Phase, Workload

CLASSES, FEATURES = 500, 64
STEPS = 50  # that a class is the newest one
TEST_ROWS = 10  # of a class
SPREAD = 0.75  # of the centres, where rows lie around theirs with 1
BUFFER_ROWS = 5000
TASK = TaskSpec("clusters", modality="table")


def clusters(seed: int, classes: int = CLASSES, steps: int = STEPS) -> Workload:
    """A new class every 50 steps, whose rows come alone and never again; nobody says that it is new.

    Centres are normal with a deviation of SPREAD in every feature, rows normal around their centre with 1. `ceiling` is the
    accuracy in percent of who knows all centres and answers with the nearest one, which nobody can beat. Of the engine's
    settings only the size of the buffer is set: ten rows a class.
    """
    draw = np.random.default_rng([seed, 3])
    center_CF = SPREAD * draw.standard_normal((classes, FEATURES))

    def rows(number: int, count: int) -> tuple[Array, Array]:
        noise_NF = draw.standard_normal((count, FEATURES))
        return (center_CF[number] + noise_NF).astype(np.float32), np.full(count, number, np.int64)

    phases = tuple(
        Phase(f"class {k}", TASK.name, *rows(k, steps * BATCH), *rows(k, TEST_ROWS))
        for k in range(classes)
    )
    return Workload(
        (TASK,), phases, every=50, engine={"buffer_rows": BUFFER_ROWS}, event_rows=BATCH,
        data={"made": f"{classes} normal clusters in {FEATURES} features", "ceiling": _ceiling(center_CF, phases)},
    )  # fmt: skip


def _ceiling(center_CF: Array, phases: tuple[Phase, ...]) -> float:
    x = np.concatenate([phase.test_x for phase in phases])
    y = np.concatenate([phase.test_y for phase in phases])
    near_NC = x @ center_CF.T - (center_CF**2).sum(1) / 2
    return round(100 * float((near_NC.argmax(1) == y).mean()), 2)
