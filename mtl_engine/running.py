"""Running mean and variance by column (Chan, Golub, LeVeque 1979), with missing entries, in float64."""

from __future__ import annotations

import numpy as np

from mtl_engine.types import Array

SETTLED = 1000  # values after which the deviation is trusted
OUTLIER = 20.0  # deviations; real tables have values this far out, but rarely


def updated(stats_3F: Array, x_BF: Array, given_BF: Array) -> Array:
    """Statistics (count, mean, sum of squared deviations) after more rows; `given_BF` is False where missing.

    Once settled, a value counts as at most OUTLIER deviations from the mean: one glitch of a sensor must not
    flatten its column for good, while a real change of scale still gets through, a few rows later.
    """
    count_F, mean_F, m2_F = stats_3F
    new_F = given_BF.sum(0)
    safe_F = np.maximum(new_F, 1)
    reach_F = np.where(count_F < SETTLED, np.inf, OUTLIER * deviation(stats_3F))
    x_BF = np.where(given_BF, x_BF, 0.0).astype(np.float64)
    x_BF = np.where(given_BF, x_BF.clip(mean_F - reach_F, mean_F + reach_F), 0.0)
    mean_new_F = x_BF.sum(0) / safe_F
    m2_new_F = (np.where(given_BF, x_BF - mean_new_F, 0.0) ** 2).sum(0)
    total_F = np.maximum(count_F + new_F, 1)
    shift_F = np.where(new_F > 0, mean_new_F - mean_F, 0.0)
    mean_F = mean_F + shift_F * new_F / total_F
    m2_F = m2_F + m2_new_F + shift_F**2 * count_F * new_F / total_F
    return np.stack([count_F + new_F, mean_F, m2_F])


def deviation(stats_3F: Array) -> Array:
    """Standard deviation by column; 1 where fewer than two values were seen or all were equal."""
    count_F, mean_F, m2_F = stats_3F
    deviation_F = np.sqrt(m2_F / np.maximum(count_F, 1))
    tiny_F = deviation_F <= 1e-9 * np.maximum(np.abs(mean_F), 1e-30)
    return np.where((count_F < 2) | tiny_F, 1.0, deviation_F)
