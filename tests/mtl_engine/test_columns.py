"""Where columns lie changes nothing that is learned, and how large they are nothing that a step costs."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl_engine.policies.balanced import Balanced
from mtl_engine.policies.reservoir import Reservoir
from mtl_engine.replay import Replay
from mtl_engine.types import Rows, Target
from tests.support.engines import blobs, differences, engine, loaded, saved, task

SETTINGS = {"buffer_rows": 30, "replay_batch": 6}


@pytest.mark.parametrize("strategy", ["er", "derpp"])
@pytest.mark.parametrize("policy", ["balanced", "reservoir"])
def test_an_engine_with_its_buffer_in_files_learns_the_same_bits_and_resumes_either_way(
    strategy: str, policy: str, tmp_path: Path
) -> None:
    folder = str(tmp_path / "made" / "here")
    inside = engine(strategy, policy=policy, **SETTINGS)
    outside = engine(strategy, policy=policy, buffer_dir=folder, **SETTINGS)
    for one in (inside, outside):
        one.add_task(task("a"))
        one.add_task(task("b"))
    for step in range(24):
        labels = [step % 3, (step + 1) % 3, step // 6 % 3, 0]
        for one in (inside, outside):
            one.observe("ab"[step // 5 % 2], blobs(labels, step), labels)
        if step == 11:
            state = saved(inside)
            inside = loaded(saved(outside), strategy, policy=policy, **SETTINGS)
            outside = loaded(state, strategy, policy=policy, buffer_dir=folder, **SETTINGS)
    assert differences(inside, outside) == []
    assert not list(Path(folder).iterdir())


@pytest.mark.parametrize("policy", [Balanced, Reservoir])
def test_a_step_allocates_nothing_in_proportion_to_the_buffer(policy: type) -> None:
    """While it fills, when it is full, and while the stream goes from task to task; 300,000 slots, 8 rows."""
    capacity = 300_000
    replay = Replay(capacity, policy, 5, torch.device("cpu"))
    replay.arrange({"t": ["a", "b"]})
    shares = {1: (1.0, 0.0), 2: (1.0, 0.0)}

    def offer(step: int, n: int) -> None:
        y = (np.arange(n) % 4).astype(np.int32)
        rows = Rows("t", np.zeros((n, 2), np.uint8), None, {"ab"[step % 2]: Target(y)})
        replay.offer(step, rows, np.full(n, 1 + step % 2), y.astype(np.int64))

    for fill in (8, 400_000):
        for step in (0, 1):
            offer(step, fill)  # allocates columns, groups and strata
        tracemalloc.start()
        try:
            for step in range(2, 12):
                offer(step, 8)
                slots = replay.draw(step, 8, lambda: shares)["t"]
                replay.tables["t"].batch(slots)
            assert tracemalloc.get_traced_memory()[1] < capacity // 2, "half a byte a slot"
        finally:
            tracemalloc.stop()
