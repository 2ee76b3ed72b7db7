"""Exact reservoir sampling for many groups at once, and the book-keeping of which slot belongs to whom.

A group that has been offered n rows and has q slots keeps a uniform sample. For the i-th of m new rows
(i = 1 .. m), j = floor(U * (n + i)) replaces slot j iff j < q; of several rows for one slot the last
wins, as it would one by one. A group whose quota shrinks loses slots uniformly at random, which keeps
the sample uniform; one whose quota grows fills the new slots with the next rows (older ones are gone).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtl_engine import rng
from mtl_engine.policies.base import Policy
from mtl_engine.types import Array, Json

_PAIRS = 4096  # up to here comparing every pair of rows is faster than sorting them
_ABOVE = 1 + 1e-9  # above every rounding of a bound
_NO_KEY = np.iinfo(np.int64).max
_ARRAYS = ("key_G", "seen_G", "quota_G", "filled_G", "slot_GQ", "free_N")


class Slots:
    """Places rows of groups (Letters: G groups, Q slots of a group, N free slots) into `capacity` slots."""

    def __init__(self, policy: Policy, capacity: int, seed: int, purpose: str) -> None:
        self.policy = policy
        self.capacity = capacity
        self.seed = seed
        self.purpose = f"evict:{purpose}"
        self.rearranged = 0  # how often quotas changed; the counter of the eviction draws
        self.key_G = self.seen_G = self.quota_G = self.filled_G = np.zeros(0, np.int64)
        self.slot_GQ = np.zeros((0, 0), np.int64)
        self.free_N = np.arange(capacity)[::-1].copy()  # a stack: the last is taken first
        self.group_M = np.full(capacity, -1, np.int64)
        self._index()

    def place(self, key_B: Array, uniform_B: Array) -> Array:
        """The slot of each row, -1 = not kept; a row whose slot another row of this batch took is not kept."""
        at_B = self._sorted_G.searchsorted(key_B)
        if (self._sorted_G[at_B] == key_B).all():
            slot_B = self._place_known(self._order_G[at_B], uniform_B)
        else:
            slot_B = self._place_new(key_B, uniform_B)
        kept = np.flatnonzero(slot_B >= 0)
        if kept.size:
            last_M = np.full(self.capacity, -1, np.int64)
            last_M[slot_B[kept]] = kept  # of repeated indices numpy keeps the last
            lost = (last_M[slot_B[kept]] != kept) | (self.group_M[slot_B[kept]] < 0)
            slot_B[kept[lost]] = -1
        return slot_B

    def pass_by(self, key_B: Array, least: float) -> bool:
        """Count rows none of which can be kept, the usual case on a long stream; False where one might be, or is new.

        `least` is the smallest of their draws.
        """
        if least < self._chance:
            return False
        at_B = self._sorted_G.searchsorted(key_B)
        if (self._sorted_G[at_B] != key_B).any():
            return False
        self.seen_G += np.bincount(self._order_G[at_B], minlength=len(self.key_G))
        return True

    def resize(self, capacity: int) -> tuple[Array, Array]:
        """Change the number of slots; returns (old slots, new slots) of rows that must be moved."""
        self.capacity = capacity
        self._rearrange(self.policy.quotas(self.key_G, capacity))
        used = np.flatnonzero(self.group_M >= 0)
        source = used[used >= capacity]
        free = np.setdiff1d(np.arange(capacity), used)
        target = free[: len(source)]
        moved = np.arange(max(len(self.group_M), capacity))
        moved[source] = target
        for g, filled in enumerate(self.filled_G):
            self.slot_GQ[g, :filled] = moved[self.slot_GQ[g, :filled]]
        self.free_N = free[len(source) :][::-1].copy()
        self._index()
        return source, target

    def remove(self, slot_N: Array, key_G: Array) -> None:
        """Empty some slots, and forget the groups `key_G` altogether; their room goes to the others."""
        gone_M = np.zeros(self.capacity, np.bool_)
        gone_M[slot_N] = True
        for g in range(len(self.key_G)):
            mine = self.slot_GQ[g, : self.filled_G[g]]
            kept = mine[~gone_M[mine]]
            self.slot_GQ[g, : len(kept)] = kept
            self.filled_G[g] = len(kept)
        self.free_N = np.concatenate([self.free_N, np.sort(slot_N)[::-1]])
        stay = ~np.isin(self.key_G, key_G)
        self.key_G, self.seen_G, self.quota_G = (
            self.key_G[stay],
            self.seen_G[stay],
            self.quota_G[stay],
        )
        self.filled_G, self.slot_GQ = self.filled_G[stay], self.slot_GQ[stay]
        self._rearrange(self.policy.quotas(self.key_G, self.capacity))
        self._index()

    def state(self) -> tuple[Json, dict[str, Array]]:
        return {"capacity": self.capacity, "rearranged": self.rearranged}, {
            name: vars(self)[name] for name in _ARRAYS
        }

    def load_state(self, meta: Json, arrays: Mapping[str, Array]) -> None:
        self.capacity, self.rearranged = int(meta["capacity"]), int(meta["rearranged"])
        for name in _ARRAYS:
            vars(self)[name] = np.array(arrays[name], np.int64)
        self._index()

    def _index(self) -> None:
        """What follows from the state: groups by key, and the group of every slot."""
        self._order_G = np.append(np.argsort(self.key_G, kind="stable"), -1)
        self._sorted_G = np.append(np.sort(self.key_G), _NO_KEY)  # so that every search ends inside
        self._chance = 2.0  # no draw at or above it keeps a row, whatever its group; grows stale on the safe side
        self.group_M = np.full(self.capacity, -1, np.int64)
        for g, filled in enumerate(self.filled_G):
            self.group_M[self.slot_GQ[g, :filled]] = g

    def _groups(self, key_B: Array) -> Array:
        at_B = self._sorted_G.searchsorted(key_B)
        return np.where(self._sorted_G[at_B] == key_B, self._order_G[at_B], -1)

    def _place_new(self, key_B: Array, uniform_B: Array) -> Array:
        """Stretches between first appearances, so that a batch equals its rows one by one."""
        new = self._groups(key_B) < 0
        _, first = np.unique(key_B, return_index=True)
        starts = [int(row) for row in np.sort(first[new[first]])]
        slot_B = np.full(len(key_B), -1, np.int64)
        if starts[0] > 0:
            slot_B[: starts[0]] = self._place_known(
                self._groups(key_B[: starts[0]]), uniform_B[: starts[0]]
            )
        for start, stop in zip(starts, [*starts[1:], len(key_B)], strict=True):
            self._add(int(key_B[start]))
            slot_B[start:stop] = self._place_known(
                self._groups(key_B[start:stop]), uniform_B[start:stop]
            )
        return slot_B

    def _place_known(self, group_B: Array, uniform_B: Array) -> Array:
        quota_B, filled_B = self.quota_G[group_B], self.filled_G[group_B]
        if (filled_B >= quota_B).all():
            return self._replace(group_B, uniform_B, quota_B)
        rank_B = _ranks(group_B)
        filled_B = filled_B + rank_B
        fills_B = filled_B < quota_B
        at_B = np.where(
            fills_B, filled_B, (uniform_B * (self.seen_G[group_B] + rank_B + 1)).astype(np.int64)
        )
        count_G = np.bincount(group_B, minlength=len(self.key_G))
        self.seen_G += count_G
        fills = np.flatnonzero(fills_B)
        if fills.size:
            np.minimum(self.quota_G, self.filled_G + count_G, out=self.filled_G)
            slots = self.free_N[-1 : -len(fills) - 1 : -1]
            self.free_N = self.free_N[: len(self.free_N) - len(fills)]
            self.slot_GQ[group_B[fills], at_B[fills]] = slots
            self.group_M[slots] = group_B[fills]
        slot_B = np.full(len(group_B), -1, np.int64)
        kept = np.flatnonzero(at_B < quota_B)
        slot_B[kept] = self.slot_GQ[group_B[kept], at_B[kept]]
        return slot_B

    def _replace(self, group_B: Array, uniform_B: Array, quota_B: Array) -> Array:
        """Groups that are full, the usual case later on: few rows have a chance, only those are looked at."""
        slot_B = np.full(len(group_B), -1, np.int64)
        row_N = np.flatnonzero(uniform_B * (self.seen_G[group_B] + 1) < quota_B)
        if row_N.size:
            group_N = group_B[row_N]
            at_N = self._draws(group_B, row_N, uniform_B[row_N])
            kept = at_N < quota_B[row_N]
            slot_B[row_N[kept]] = self.slot_GQ[group_N[kept], at_N[kept]]
        self.seen_G += np.bincount(group_B, minlength=len(self.key_G))
        if (self.filled_G >= self.quota_G).all():
            self._chance = float((self.quota_G / (self.seen_G + 1)).max()) * _ABOVE
        return slot_B

    def _draws(self, group_B: Array, row_N: Array, uniform_N: Array) -> Array:
        """floor(U * (n + i)) for some rows."""
        if len(row_N) * len(group_B) > _PAIRS:
            rank_N = _ranks(group_B)[row_N]
        else:
            same_NB = group_B == group_B[row_N, None]
            rank_N = (same_NB & (np.arange(len(group_B)) < row_N[:, None])).sum(1)
        return (uniform_N * (self.seen_G[group_B[row_N]] + rank_N + 1)).astype(np.int64)

    def _add(self, key: int) -> None:
        self.key_G = np.append(self.key_G, key)
        self.seen_G, self.filled_G, self.quota_G = (
            np.append(a, 0) for a in (self.seen_G, self.filled_G, self.quota_G)
        )
        self.slot_GQ = np.concatenate([self.slot_GQ, np.full((1, self.slot_GQ.shape[1]), -1)])
        self._rearrange(self.policy.quotas(self.key_G, self.capacity))
        self._index()

    def _rearrange(self, quota_G: Array) -> None:
        """New quotas; what no longer fits is evicted uniformly at random from its group."""
        self.rearranged += 1
        over = np.flatnonzero(self.filled_G > quota_G)
        if over.size:
            used_OQ = np.arange(self.slot_GQ.shape[1]) < self.filled_G[over, None]
            draw = rng.uniform(self.seed, self.purpose, self.rearranged, used_OQ.size).reshape(
                used_OQ.shape
            )
            rank_OQ = np.argsort(
                np.argsort(np.where(used_OQ, draw, 2.0), axis=1, kind="stable"),
                axis=1,
                kind="stable",
            )
            for row, g in enumerate(over):
                stays_Q = rank_OQ[row, : self.filled_G[g]] < quota_G[g]
                mine = self.slot_GQ[g, : self.filled_G[g]]
                evicted = mine[~stays_Q]
                self.free_N = np.concatenate([self.free_N, evicted])
                self.group_M[evicted] = -1
                self.slot_GQ[g, : quota_G[g]] = mine[stays_Q]
            self.filled_G = np.minimum(self.filled_G, quota_G)
        self.quota_G = quota_G
        widest = int(quota_G.max(initial=0))
        resized = np.full((len(quota_G), widest), -1, np.int64)
        shared = min(widest, self.slot_GQ.shape[1])
        inside_GQ = np.arange(shared) < self.filled_G[:, None]
        resized[:, :shared] = np.where(inside_GQ, self.slot_GQ[:, :shared], -1)
        self.slot_GQ = resized


def _ranks(group_B: Array) -> Array:
    """How many earlier rows of the batch are in the same group, int64 [B]."""
    order = np.argsort(group_B, kind="stable")
    sorted_B = group_B[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_B[1:] != sorted_B[:-1]]))
    sizes = np.diff(np.append(starts, len(group_B)))
    rank_B = np.empty(len(group_B), np.int64)
    rank_B[order] = np.arange(len(group_B)) - np.repeat(starts, sizes)
    return rank_B
