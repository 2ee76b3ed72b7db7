"""Nothing grows, nobody is lost: small versions of the soak and the back-pressure benchmark (promise P5)."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(240)]

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Benchmarks are scripts that import their neighbours by name."""
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module


def test_memory_files_threads_and_disk_are_flat_over_a_stream(
    tmp_path: Path, benchmark: Any
) -> None:
    found = benchmark("soak").measure(tmp_path, warm_up=30_000, rows=20_000, every_s=0.02)
    assert found["samples"] > 10, "too few to see a slope"
    grown = {name: one for name, one in found["quantities"].items() if not one["is_flat"]}
    assert not grown
    counters = found["counters"]
    assert counters["lost_events"] == 0
    assert counters["trained_rows"] + counters["held_out_rows"] >= 50_000
    assert counters["duplicate_rows"] > 0 < counters["dead_rows"]


def test_fast_producers_lose_nothing_at_a_bound_below_one_checkpoint_interval(
    tmp_path: Path, benchmark: Any
) -> None:
    found = benchmark("backpressure").measure(tmp_path, bound=20, num_events=300, width=600)
    assert found["ok"], found
    assert found["times_faster"] > 3, "producers were hardly held up: this shows nothing"
    assert found["lag_max"] > 10, "the bound was never neared: this shows nothing"


def test_the_slope_test_sees_growth_and_ignores_peaks(benchmark: Any) -> None:
    soak = benchmark("soak")
    at = [float(second) for second in range(100)]
    noise = np.random.default_rng(0).normal(0, 1e5, 100)
    flat = (3e8 + noise).tolist()
    peaks = [value + 5e7 * (place % 10 == 0) for place, value in enumerate(flat)]
    leak = [value + 2e5 * place for place, value in enumerate(flat)]
    for values, is_flat in ((flat, True), (peaks, True), (leak, False)):
        samples = soak.Samples()
        samples.at_s = at
        samples.of = {name: [0.0] * 100 for name in soak.ALLOWED} | {"resident_bytes": values}
        assert samples.verdict()["resident_bytes"]["is_flat"] is is_flat
    samples.of["open_files"] = [10.0] * 60 + [11.0] * 40  # one descriptor, never given back
    assert samples.verdict()["open_files"]["is_flat"] is False
