"""The adaptive window: what it finds, what it leaves alone, and how much it keeps."""

from __future__ import annotations

import numpy as np
import pytest

from mtl_engine.adwin import BUCKETS, LEVELS, Window

BLOCK = 128


def filled(x_NF: np.ndarray, delta: float = 0.1) -> Window:
    window = Window(x_NF.shape[1], delta)
    for start in range(0, len(x_NF), BLOCK):
        window.add(x_NF[start : start + BLOCK])
    return window


def coins(seed: int, *shares: float, num: int = 4096) -> np.ndarray:
    """Zeros and ones, `num` of each share of ones."""
    draw = np.random.default_rng(seed)
    return np.concatenate([(draw.random(num) < p).astype(np.float64) for p in shares])[:, None]


def is_over(window: Window) -> bool:
    _, moved_KF, allowed_KF = window.cuts()
    return bool((np.abs(moved_KF) > allowed_KF).any())


def test_a_mean_that_moved_is_over_the_bound_at_the_cut_where_it_moved() -> None:
    n0_K, moved_KF, allowed_KF = filled(coins(1, 0.2, 0.4)).cuts()
    best = int((moved_KF / allowed_KF).argmax())
    assert moved_KF[best, 0] > allowed_KF[best, 0]
    assert abs(n0_K[best] - 4096) <= 512
    assert moved_KF[best, 0] == pytest.approx(0.2, abs=0.05)


def test_means_that_stay_are_seldom_over_the_bound() -> None:
    windows = 0
    for seed in range(40):
        window, x_NF = Window(1, 0.01), coins(seed, 0.3)
        for start in range(0, len(x_NF), BLOCK):
            window.add(x_NF[start : start + BLOCK])
            if is_over(window):
                windows += 1
                break
    assert windows <= 1


def test_only_the_mean_that_moved_is_over_the_bound() -> None:
    x_NF = np.hstack([coins(1, 0.5, 0.5), coins(2, 0.2, 0.5), np.ones((8192, 1))])
    _, moved_KF, allowed_KF = filled(x_NF).cuts()
    assert (np.abs(moved_KF) > allowed_KF).any(0).tolist() == [False, True, False]


def test_its_buckets_hold_every_row_and_stay_few() -> None:
    draw = np.random.default_rng(0)
    x_NF = draw.random((40_000, 2))
    window = filled(x_NF)
    rows_K, sums_KF = window.state()[:, 1], window.state()[:, 2:4]
    assert rows_K.sum() == len(x_NF)
    assert sums_KF.sum(0) == pytest.approx(x_NF.sum(0))
    sizes, counts = np.unique(window.state()[:, 0], return_counts=True)
    assert counts.max() <= BUCKETS
    assert sizes.tolist() == [2.0**level for level in range(len(sizes))]


def test_beyond_its_largest_bucket_the_oldest_rows_are_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mtl_engine.adwin.LEVELS", 3)
    window = filled(np.arange(60_000.0)[:, None])
    assert len(window.state()) <= BUCKETS * 3 < BUCKETS * LEVELS
    rows = len(window)
    assert rows <= BUCKETS * (1 + 2 + 4) * BLOCK
    assert window.state()[:, 2].sum() == np.arange(60_000.0)[-rows:].sum()


def test_what_is_dropped_was_the_oldest() -> None:
    window = filled(coins(1, 0.0, 1.0))
    n0_K, moved_KF, allowed_KF = window.cuts()
    window.drop(float(n0_K[(moved_KF > allowed_KF)[:, 0]].max()))
    table_KX = window.state()
    assert table_KX[:, 2].sum() == table_KX[:, 1].sum() > 0
