"""The baseline reads what the engine reads, is chosen on the validation split, and is set beside what is recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import results
import text_baseline
from workloads import packages, sources

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
WORDS = ("mail", "web", "game", "font")


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = {word: [f"{word} program number {k} for {word}s" for k in range(60)] for word in WORDS}
    monkeypatch.setattr(sources, "descriptions", lambda: (lines, "abc"))


def test_a_line_is_cut_to_the_bytes_that_the_engine_reads() -> None:
    lines = np.array(["abcdef", "aé", "ab"], dtype=object)
    assert text_baseline.cut(lines, 2) == ["ab", "a", "ab"]


def test_all_rows_are_seen_once_and_every_test_row_counts_for_its_phase() -> None:
    given = text_baseline.vectors(packages.packages("test"), "words")
    assert given.x.shape[0] == len(given.y) == 4 * 48
    assert given.test_x.shape[1] == given.x.shape[1]
    assert np.bincount(given.test_phase).tolist() == [24, 24]
    assert text_baseline.accuracy(given, 1e-5, 0) == 100
    nothing = text_baseline.Vectors(given.x * 0, given.y, given.test_x * 0, given.test_y, given.test_phase)  # fmt: skip
    assert text_baseline.accuracy(nothing, 1e-5, 0) < 60


def test_the_best_of_the_validation_split_is_taken() -> None:
    tried, ngrams, alpha = text_baseline.best(packages.packages("validation"), 1)
    assert len(tried) == len(text_baseline.NGRAMS) * len(text_baseline.ALPHAS)
    assert tried[f"{ngrams}, alpha {alpha:g}"] == max(tried.values())


def test_the_engine_s_results_stand_beside_it_with_whether_they_are_of_the_same_list(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry: dict[str, Any] = {"workload": "W6", "accuracy_mean": 70.0, "accuracy_std": 1.0, "seeds": 3, "git": "abc"}  # fmt: skip
    known = [
        {**entry, "strategy": "joint", "data": {"dumpavail_sha256": "abc"}},
        {**entry, "strategy": "default", "data": {"dumpavail_sha256": "other"}},
        {**entry, "workload": "W1", "strategy": "er"},
    ]
    monkeypatch.setattr(results, "read", lambda: known)
    found = text_baseline.recorded({"dumpavail_sha256": "abc"})
    assert {name: one["same_list"] for name, one in found.items()} == {
        "joint": True,
        "default": False,
    }
