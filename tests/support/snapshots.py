"""Real published snapshots for tests of what reads them: a task of text and one of numbers."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from daemon import releases
from mtl_engine import snapshot
from mtl_engine.types import TaskSpec
from tests.support.engines import WIDTH, engine, task

X = np.random.default_rng(2).standard_normal((8, WIDTH)).astype(np.float32)
WORDS = ["rain", "sun", "rain again", "sunny"]


def publish(
    models: Path, version: int, steps: int = 10, labels: tuple[str, ...] = ("wet", "dry")
) -> Any:
    """A snapshot as the daemon lays it out, `latest` moved to it; returns the engine."""
    one = engine(optimizer={"name": "adamw", "lr": 0.01})
    one.add_task(TaskSpec("sky", modality="text", max_bytes=32, classes=labels))
    one.add_task(task("size", "regression"))
    one.add_task(task("tags", "multilabel"))
    for _ in range(steps):
        one.observe("sky", WORDS, [labels[0], labels[1]] * 2)
        one.observe("size", X, np.stack([X[:, 0], 100 + X[:, 1]], 1))
        one.observe("tags", X, (X[:, :2] > 0).astype(np.uint8))
    one.hold_out("sky", WORDS, [labels[0], labels[1]] * 2, kind="judge")
    tensors, tasks, told = one.stage_snapshot()
    more = {"version": version, "at": datetime.now(UTC).isoformat(), "epoch": 1, "watermark": "5-0"}
    name = releases.directory_name(version)
    snapshot.write(models / name, tensors, json.loads(json.dumps(tasks)), {**told, **more})
    releases.point(models, "latest", name)
    if version == 1:
        releases.promote(models, name)
    return one
