"""W5: W1, then MNIST 5k, W4's tasks and three tables, on one shared trunk: thirteen phases, nine heads, five encoders."""

from __future__ import annotations

import numpy as np

from mtl_engine.types import Array, TaskSpec
from workloads import images, sources, texts
from workloads.base import Phase, Workload, divided, parted

TABLES = ("letter", "satimage", "magic")
TRUNK = {"width": 512, "depth": 2, "norm": "none"}
BUFFER_ROWS = 20_000  # nine heads share them: 222 rows are left of each class of Fashion-MNIST


def mixed(split: str) -> Workload:
    """W5."""
    fashion = images.pairs(*divided(split, *sources.fashion()), task="fashion")
    found = (
        *fashion,
        _mnist(split),
        *texts.phases(split),
        *(_table(split, name) for name in TABLES),
    )
    specs = (
        TaskSpec("fashion"),
        TaskSpec("mnist"),
        *texts.specs(),
        *(TaskSpec(name, modality="table") for name in TABLES),
    )
    engine = {**texts.ENGINE, "trunk": TRUNK, "buffer_rows": BUFFER_ROWS}
    return Workload(specs, found, every=200, engine=engine, eval_rows=250)


def _mnist(split: str) -> Phase:
    x, y = sources.mnist5k()
    return Phase("mnist", "mnist", *parted(split, x, y))


def _table(split: str, name: str) -> Phase:
    x, labels = sources.keel(name)
    y: Array = np.array(labels)
    return Phase(name, name, *parted(split, x, y))
