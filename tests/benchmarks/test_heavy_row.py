"""What a heavy row moves is told apart from what the stream moves, and a step without a limit is found out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import heavy_row
import pytest
from heavy_row import End, batches, run, told

from tests.support import small_workloads as small

UNLIMITED: dict[str, Any] = {"optimizer": {"name": "sgd", "lr": 0.1}, "clip_norm": 0.0}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heavy_row, "BEFORE", {"shuffled": 10, "phases": 15})
    monkeypatch.setattr(heavy_row, "AFTER", 8)


@pytest.mark.parametrize("stream", ["shuffled", "phases"])
def test_without_the_weight_nothing_is_different(stream: str) -> None:
    assert run(small.split(), stream, 0, 1.0) == run(small.split(), stream, 0, 1.0)
    assert run(small.split(), stream, 0, 1.0).distance > 0


def test_a_row_of_any_weight_throws_a_model_whose_steps_have_no_limit() -> None:
    workload = replace(small.split(), engine={**small.ENGINE, **UNLIMITED})
    ends = [run(workload, "shuffled", 0, weight) for weight in (1.0, heavy_row.WEIGHT)]
    found = told(ends[:1], ends[1:])
    assert found["ratio"] > 100
    assert not found["within_bar"]
    assert found["within_bar_seeds"] == 0


def test_the_ratio_is_taken_seed_by_seed() -> None:
    found = told([End(1, 90), End(4, 80)], [End(2, 85), End(4, 81)])
    assert found["ratio_each"] == [2, 1]
    assert found["ratio"] == 1.5
    assert found["within_bar"]
    assert found["loss_each"] == [5, -1]


def test_a_shuffled_stream_has_all_classes_and_phases_two_at_a_time() -> None:
    _, _, shuffled_y = next(batches(small.split(), "shuffled", 0))
    assert len(set(shuffled_y.tolist())) > 5
    phases = list(batches(small.split(), "phases", 0))
    assert all(len(set(y.tolist())) == 2 for _, _, y in phases)
    assert list(dict.fromkeys(name for name, _, _ in phases)) == [
        phase.name for phase in small.split().phases
    ]
