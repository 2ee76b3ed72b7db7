"""Rows of any kind as a few numbers each, for whoever watches a stream: sampled values, label codes, random features."""

from __future__ import annotations

import numpy as np
import torch

from mtl_engine import rng
from mtl_engine.types import Array, Rows, Target

FEATURES = 16  # K
BITS = 4  # Q: bits of a class, or the first columns of another label
_WIDTH = 128  # values of a row that are looked at, evenly spaced
_VALUES = 8192  # of all rows of a step; wide rows are not all looked at
_SPREAD = 1.5  # of W x and of b, in deviations of the inputs


class RandomFeatures:
    """u = (1 + tanh(W x + b)) / 2 of standardised rows, W and b uniform, from the seed (Rahimi and Recht 2008)."""

    def __init__(self, units_2X: Array, seed: int) -> None:
        self.units_2X = units_2X  # centre and scale of inputs and label codes, float32
        centre_X, scale_X = units_2X.astype(np.float64)
        width = units_2X.shape[1] - BITS
        draw = 2 * rng.uniform(seed, "drift", 0, (width + 1) * FEATURES) - 1
        w_DK = draw[FEATURES:].reshape(width, FEATURES) * (_SPREAD * np.sqrt(3 / width))
        w_DK = w_DK / scale_X[:-BITS, None]
        b_K = draw[:FEATURES] * _SPREAD - centre_X[:-BITS] @ w_DK
        self._w_DK, self._b_K = (torch.from_numpy(a.astype(np.float32)) for a in (w_DK, b_K))

    def of(self, raw_BX: Array) -> tuple[Array, Array]:
        """u [B, K] and the label codes [B, Q], both float64 from 0 to 1; a missing value counts as the mean."""
        missing_BX = np.isnan(raw_BX)
        if missing_BX.any():
            raw_BX = np.where(missing_BX, self.units_2X[0], raw_BX)
        # By torch, whose number of threads is part of a run: the last bit depends on it.
        x_BD = torch.from_numpy(raw_BX)[:, :-BITS]
        u_BK = torch.addmm(self._b_K, x_BD, self._w_DK).tanh_().double().numpy()
        centre_Q, scale_Q = self.units_2X[:, -BITS:]
        code_BQ = np.tanh((raw_BX[:, -BITS:] - centre_Q) / scale_Q).astype(np.float64)
        return (1 + u_BK) / 2, (1 + code_BQ) / 2


def some(rows: Rows, target: Target) -> Rows:
    """What is looked at of a step, with one label: views of some values of some rows."""
    x = _values(rows.x) if rows.length is None else rows.x
    every = -(-len(rows) * (256 if rows.length is not None else x.shape[1]) // _VALUES)
    own = Rows(rows.table, x, rows.length, {"": target})
    return own if every == 1 else own.take(slice(None, None, every))


def sample(rows: Rows) -> Array:
    """float32 [B, D + Q + 1] of rows that `some` gave: values, the code of its one label (NaN = missing), whether it is labelled."""
    [target] = rows.targets.values()
    y, weight = target.y, target.weight
    x_SD = rows.x if rows.length is None else _bytes(rows.x, rows.length)
    found_SX = np.full((len(x_SD), x_SD.shape[1] + BITS + 1), np.nan, np.float32)
    found_SX[:, : -BITS - 1] = x_SD
    if y.ndim == 1:
        found_SX[:, -BITS - 1 : -1] = (y[:, None] >> np.arange(BITS)) & 1
        found_SX[:, -1] = 1.0 if weight is None else weight > 0
        return found_SX
    columns = min(y.shape[1], BITS)
    code_SQ = found_SX[:, x_SD.shape[1] : x_SD.shape[1] + columns]
    code_SQ[:] = y[:, :columns]
    if weight is not None:
        code_SQ[weight[:, :columns] <= 0] = np.nan
    found_SX[:, -1] = 1.0 if weight is None else (weight > 0).any(1)
    return found_SX


def _values(x: Array) -> Array:
    """At most `_WIDTH` values of each row, evenly spaced."""
    x_SD = x.reshape(len(x), -1)
    return x_SD[:, :: -(-x_SD.shape[1] // _WIDTH)]


def _bytes(x_ST: Array, length_S: Array) -> Array:
    """How often each byte is in each text."""
    longest = max(int(length_S.max()), 1)
    x_ST = x_ST[:, :longest]
    is_text_ST: Array = np.less(np.arange(longest), length_S[:, None])
    place_ST = np.arange(len(x_ST))[:, None] * 256 + x_ST
    count = np.bincount(place_ST[is_text_ST], minlength=256 * len(x_ST))
    return count.reshape(len(x_ST), 256)


def units(raw_BX: Array) -> Array:
    """Centre and scale of every column, float32 [2, X]; NaN is missing."""
    given_BX = ~np.isnan(raw_BX)
    n_X = np.maximum(given_BX.sum(0), 1)
    raw_BX = np.where(given_BX, raw_BX, 0.0).astype(np.float64)
    centre_X = raw_BX.sum(0) / n_X
    scale_X = np.sqrt((np.where(given_BX, raw_BX - centre_X, 0.0) ** 2).sum(0) / n_X)
    scale_X = np.where(scale_X <= 1e-6 * np.maximum(np.abs(centre_X), 1.0), 1.0, scale_X)
    return np.stack([centre_X, scale_X]).astype(np.float32)
