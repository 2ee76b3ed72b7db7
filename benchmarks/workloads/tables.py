"""Streams of tables: letters and soil by classes, two a phase, and three regressions one after another.

Letters of KEEL (20,000 rows, 26 classes, 13 phases), satimage (6,435 rows, 6 classes, 3 phases); price of a diamond (the
first 10,000 rows of a random order), strength of concrete and time of a delivery, each a task with its own columns. Nothing
is set but what the engine sets itself.
"""

from __future__ import annotations

import numpy as np

from mtl_engine.types import Array, TaskSpec
from workloads import sources
from workloads.base import Phase, Workload, parted

ROWS = 10_000  # of a regression at most
REGRESSIONS = {
    "diamonds": ("ggplot2", "diamonds", "price"),
    "concrete": ("modeldata", "concrete", "compressive_strength"),
    "deliveries": ("modeldata", "deliveries", "time_to_delivery"),
}


def letters(split: str) -> Workload:
    """Thirteen phases of two letters."""
    return _by_pairs(split, "letter")


def satimage(split: str) -> Workload:
    """Three phases of two kinds of soil."""
    return _by_pairs(split, "satimage")


def regressions(split: str) -> Workload:
    """Three tasks of numbers; scored is 100 R2, at least 0."""
    specs: list[TaskSpec] = []
    phases: list[Phase] = []
    for name, place in REGRESSIONS.items():
        x, y = sources.regression(*place)
        first = np.random.default_rng(0).permutation(len(y))[:ROWS]
        specs.append(TaskSpec(name, modality="table", kind="regression"))
        phases.append(Phase(name, name, *parted(split, x[first], y[first])))
    return Workload(tuple(specs), tuple(phases), every=25)


def _by_pairs(split: str, name: str) -> Workload:
    x, y = sources.keel(name)
    label = np.array(y)
    x, y, xt, yt = parted(split, x, label)
    classes = np.random.default_rng(1).permutation(np.unique(label))
    phases = tuple(
        _phase(name, classes[k : k + 2], (x, y), (xt, yt)) for k in range(0, len(classes), 2)
    )
    return Workload((TaskSpec(name, modality="table"),), phases, every=10)


def _phase(
    task: str, classes: Array, rows: tuple[Array, Array], tests: tuple[Array, Array]
) -> Phase:
    (x, y), (xt, yt) = rows, tests
    mine, kept = np.isin(y, classes), np.isin(yt, classes)
    return Phase(" and ".join(classes.tolist()), task, x[mine], y[mine], xt[kept], yt[kept])
