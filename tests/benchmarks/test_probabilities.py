"""What the benchmark of probabilities measures, on a stream whose truth is known."""

from __future__ import annotations

import numpy as np
import probabilities
import pytest
from probabilities import Data, measure

from mtl_engine.types import TaskSpec


def rare(seed: int) -> Data:
    """Two classes that overlap, one of them rare."""
    draw = np.random.default_rng(seed)
    y = (draw.random(3000) < 0.1).astype(np.int64)
    x = (draw.standard_normal((3000, 4)) + np.where(y, 1.0, -1.0)[:, None]).astype(np.float32)
    spec = TaskSpec("rare", "embedding")
    return Data((spec,), (("rare", x[:2000], y[:2000]),), (("rare", x[2000:], y[2000:]),))


@pytest.mark.timeout(120)
def test_a_probability_comes_nearer_to_the_rate_and_the_decision_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(probabilities.SETS, "rare", rare)
    monkeypatch.setattr(probabilities, "exported", lambda *_: 0.0)
    found = measure("rare", range(2), 1, "default")
    assert found["within_export_bar"]
    task = found["rare"]
    assert task["test_rows"] == 1000
    assert task["decision_unchanged"]
    assert task["after"]["gap"] < 0.04 < task["before"]["gap"]
    assert task["after"]["ece"] < task["before"]["ece"]
    assert len(task["after"]["ece_each"]) == 2
    for low, high in task["after"]["ece_interval_each"]:
        assert 0 <= low < high < 0.1
