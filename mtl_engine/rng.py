"""Counter-based randomness: a draw is a pure function of (seed, purpose, step), so no generator state exists.

The generator is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators") read
as a counter: element i of a draw is mix64(key + (i + 1) * gamma), where key mixes seed, purpose and step.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from mtl_engine.types import Array

_MASK = (1 << 64) - 1
_GAMMA = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, odd
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_KEPT = 4096  # elements of a draw whose counters are kept, 32 KiB
SHORT, STEPS = 256, 16  # elements of a short draw; steps whose short draws are made together
_A, _B, _G = np.uint64(_M1), np.uint64(_M2), np.uint64(_GAMMA)
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)


def uniform(seed: int, purpose: str, step: int, n: int, start: int = 0) -> Array:
    """float64 [n], uniform in [0, 1) with 53 random bits; elements `start` and on of an endless draw.

    Do not write to it: short draws of successive steps are made together and kept.
    """
    if n <= SHORT and not start:
        return together(seed, purpose, step // STEPS, n)[step % STEPS]
    return _fractions(_bits(np.uint64(_key(seed, purpose, step, start)), n))


def listed(seed: int, purpose: str, step: int, n: int) -> list[float]:
    """`uniform` as a list; n at most `SHORT`."""
    return _listed_together(seed, purpose, step // STEPS, n)[step % STEPS]


def integers(seed: int, purpose: str, step: int, n: int, high: int) -> Array:
    """int64 [n], uniform in [0, high)."""
    return (uniform(seed, purpose, step, n) * high).astype(np.int64)


def permutation(seed: int, purpose: str, step: int, n: int) -> Array:
    """int64 [n], a random order of 0 .. n - 1."""
    return np.argsort(_bits(np.uint64(_key(seed, purpose, step)), n), kind="stable")


@lru_cache(maxsize=64)
def together(seed: int, purpose: str, block: int, n: int) -> Array:
    """Draws of `STEPS` steps from block * `STEPS` on [steps, n], in a fraction of the time that one by one would take."""
    step_K1: Array = np.arange(block * STEPS, (block + 1) * STEPS, dtype=np.uint64)[:, None]
    of_all = np.uint64(_mix(seed & _MASK) ^ _hashed(purpose))
    return _fractions(_bits(_mixed(_mixed(step_K1 * _G) ^ of_all), n))


@lru_cache(maxsize=64)
def _listed_together(seed: int, purpose: str, block: int, n: int) -> list[list[float]]:
    return together(seed, purpose, block, n).tolist()


def _fractions(bits: Array) -> Array:
    return (bits >> _S11) * 2.0**-53


def _key(seed: int, purpose: str, step: int, start: int = 0) -> int:
    key = _mix(_mix(seed & _MASK) ^ _hashed(purpose) ^ _mix((step * _GAMMA) & _MASK))
    return (key + start * _GAMMA) & _MASK


def _bits(key: Array | np.uint64, n: int) -> Array:
    return _mixed(_counters(n) + key)


def _mixed(bits: Array) -> Array:
    """`_mix` of every element, in place."""
    bits ^= bits >> _S30
    bits *= _A
    bits ^= bits >> _S27
    bits *= _B
    bits ^= bits >> _S31
    return bits


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * _M1) & _MASK
    value = ((value ^ (value >> 27)) * _M2) & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=4096)
def _hashed(purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")


def _counters(n: int) -> Array:
    return (
        _kept_counters()[:n]
        if n <= _KEPT
        else np.arange(1, n + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    )


@lru_cache(maxsize=1)
def _kept_counters() -> Array:
    return np.arange(1, _KEPT + 1, dtype=np.uint64) * np.uint64(_GAMMA)
