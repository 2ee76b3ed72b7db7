"""Counter-based draws: pure functions of seed, purpose and step, uniform and independent of how they are cut."""

from __future__ import annotations

import numpy as np
import pytest

from mtl_engine import rng


def test_the_same_arguments_give_the_same_draw() -> None:
    assert np.array_equal(rng.uniform(3, "replay", 7, 100), rng.uniform(3, "replay", 7, 100))


def test_seed_purpose_and_step_each_change_every_element() -> None:
    draw = rng.uniform(3, "replay", 7, 50)
    others = (rng.uniform(4, "replay", 7, 50), rng.uniform(3, "insert", 7, 50))
    for other in (*others, rng.uniform(3, "replay", 8, 50)):
        assert not (draw == other).any()


def test_a_draw_in_pieces_equals_the_draw_in_one() -> None:
    whole = rng.uniform(1, "holdout", 0, 5000)
    pieces = [
        rng.uniform(1, "holdout", 0, n, start=s) for s, n in ((0, 10), (10, 4980), (4990, 10))
    ]
    assert np.array_equal(np.concatenate(pieces), whole)


def test_draws_are_uniform_in_zero_to_one() -> None:
    draw = np.concatenate([rng.uniform(0, "u", step, 100) for step in range(1000)])
    assert draw.min() >= 0
    assert draw.max() < 1
    counts = np.histogram(draw, bins=20, range=(0, 1))[0]
    chi2 = float(((counts - 5000) ** 2 / 5000).sum())
    assert chi2 < 43.8  # 99.9th percentile of chi-squared with 19 degrees of freedom


def test_neighbouring_steps_are_not_correlated() -> None:
    first = np.array([rng.uniform(0, "u", step, 1)[0] for step in range(4000)])
    assert abs(float(np.corrcoef(first[:-1], first[1:])[0, 1])) < 0.05


def test_integers_cover_their_range_and_permutations_hold_everything_once() -> None:
    assert set(rng.integers(0, "i", 0, 500, 7).tolist()) == set(range(7))
    assert sorted(rng.permutation(0, "p", 0, 100).tolist()) == list(range(100))
    assert not np.array_equal(rng.permutation(0, "p", 0, 100), rng.permutation(0, "p", 1, 100))


def test_the_generator_is_splitmix64() -> None:
    """Elements follow mix64(key + (i + 1) * gamma), checked with Python's whole numbers."""
    mask, gamma = (1 << 64) - 1, 0x9E3779B97F4A7C15
    bits = (rng.uniform(0, "x", 0, 3) * 2.0**53).astype(np.uint64)
    wanted: list[int] = []
    key = rng._key(0, "x", 0)  # pyright: ignore[reportPrivateUsage]
    for i in (1, 2, 3):
        z = (key + i * gamma) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        wanted.append((z ^ (z >> 31)) >> 11)
    assert bits.tolist() == wanted


@pytest.mark.parametrize("step", [0, 1, 15, 16, 1_000_003])
def test_a_short_draw_is_the_beginning_of_a_long_one(step: int) -> None:
    long = rng.uniform(3, "p", step, rng.SHORT + 1)
    np.testing.assert_array_equal(rng.uniform(3, "p", step, 5), long[:5])
    assert rng.listed(3, "p", step, 5) == long[:5].tolist()
    np.testing.assert_array_equal(rng.uniform(3, "p", step, 2, start=4), long[4:6])
