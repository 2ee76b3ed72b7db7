"""Exact reservoir sampling for many groups at once, and the book-keeping of which slot belongs to whom.

A group that has been offered n rows and has q slots keeps a uniform sample. For the i-th of m new rows
(i = 1 .. m), j = floor(U * (n + i)) replaces slot j iff j < q; of several rows for one slot the last
wins, as it would one by one. A group whose quota shrinks loses slots uniformly at random, which keeps
the sample uniform; one whose quota grows fills the new slots with the next rows (older ones are gone).

All slots stand in one array, group after group: filling one moves a boundary and replacing one moves
nothing, so both cost what is offered, whatever the capacity. New quotas lay the array out anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mtl_engine import rng
from mtl_engine.policies.base import Policy
from mtl_engine.types import Array, Json

_PAIRS = 4096  # up to here comparing every pair of rows is faster than sorting them
_NO_KEY = np.iinfo(np.int64).max
_OF_GROUPS = ("key_G", "seen_G", "quota_G", "filled_G")


class Slots:
    """Places rows of groups (letters: G groups, P places in the order of groups, M slots) into `capacity` slots.

    Group g has the slots at places start_g .. start_g + quota_g - 1 of `slot_P`; its first filled_g hold rows.
    Slots of no group stand at the end.
    """

    def __init__(self, policy: Policy, capacity: int, seed: int, purpose: str) -> None:
        self.policy = policy
        self.capacity = capacity
        self.seed = seed
        self.purpose = f"evict:{purpose}"
        self.rearranged = 0  # how often quotas changed; the counter of the eviction draws
        self.moves = 0  # grows whenever a slot began or ceased to be in use
        self.key_G = self.seen_G = self.quota_G = self.filled_G = np.zeros(0, np.int64)
        self.slot_P = np.arange(capacity, dtype=np.int32)
        self.evicted: list[
            Array
        ] = []  # what new quotas emptied in the last call; some may hold rows again
        self._index()

    def place(self, key_B: Array, uniform_B: Array) -> Array:
        """The slot of each row, int64 [B], -1 = not kept; a row whose slot another row of this batch took is not kept."""
        self.evicted.clear()
        at_B = self._sorted_G.searchsorted(key_B)
        if (self._sorted_G[at_B] == key_B).all():
            slot_B = self._place_known(self._order_G[at_B], uniform_B)
        else:
            slot_B = self._place_new(key_B, uniform_B)
        kept = np.flatnonzero(slot_B >= 0)
        if kept.size > 1:
            slot_N = slot_B[kept]
            self._last_M[slot_N] = kept  # of repeated indices numpy keeps the last
            slot_B[kept[self._last_M[slot_N] != kept]] = -1
        return slot_B

    def replace(self, keys: Sequence[int], draws: Sequence[float]) -> dict[int, int] | None:
        """As `place` where all groups are known and full, the usual case on a long stream: the last row of each slot taken.

        None, and nothing is changed, where they are not. Row by row: in the middle of a step, where nothing is in the
        processor's caches, a few operations on arrays take longer than some dozens of rows.
        """
        groups, quotas = self._group_of, self._quotas
        distinct = set(keys)
        if not self._full or not all(key in groups for key in distinct):
            return None
        seen = {key: int(self.seen_G[groups[key]]) for key in distinct}
        quota = {key: quotas[groups[key]] for key in distinct}
        taken: dict[int, int] = {}
        for row, (key, draw) in enumerate(zip(keys, draws, strict=True)):
            n = seen[key] = seen[key] + 1
            at = draw * n
            if at < quota[key]:
                taken[int(self.slot_P[self.start_G[groups[key]] + int(at)])] = row
        for key, n in seen.items():
            self.seen_G[groups[key]] = n
        return taken

    def used(self) -> Array:
        """Slots that hold rows, ascending; takes time in proportion to the capacity."""
        return np.sort(self.slot_P[self._filled_P()])

    def groups(self) -> Array:
        """The group of every slot, int64 [M], -1 = empty; takes time in proportion to the capacity."""
        group_M = np.full(self.capacity, -1, np.int64)
        group_M[self.slot_P[self._filled_P()]] = np.repeat(
            np.arange(len(self.key_G)), self.filled_G
        )
        return group_M

    def resize(self, capacity: int) -> tuple[Array, Array]:
        """Change the number of slots; returns (old slots, new slots) of rows that must be moved."""
        self.evicted.clear()
        return self._rearrange(self.policy.quotas(self.key_G, capacity), capacity)

    def remove(self, slot_N: Array, key_G: Array) -> None:
        """Empty some slots, and forget the groups `key_G` altogether; their room goes to the others."""
        gone_M = np.zeros(self.capacity, np.bool_)
        gone_M[slot_N] = True
        stay_G = ~np.isin(self.key_G, key_G)
        filled_P = self._filled_P()
        group_N = np.repeat(np.arange(len(self.key_G)), self.filled_G)
        kept_N = ~gone_M[self.slot_P[filled_P]] & stay_G[group_N]
        filled_P[filled_P] = kept_N
        self.filled_G = np.bincount(group_N[kept_N], minlength=len(stay_G))[stay_G]
        self.key_G, self.seen_G, self.quota_G = (
            a[stay_G] for a in (self.key_G, self.seen_G, self.quota_G)
        )
        self.evicted.clear()
        self._lay(filled_P, self.quota_G, self.capacity)
        self._rearrange(self.policy.quotas(self.key_G, self.capacity), self.capacity)

    def state(self) -> tuple[Json, dict[str, Array]]:
        """Beside the groups, `slot_P`, which changes only when quotas do."""
        arrays = {name: vars(self)[name] for name in _OF_GROUPS}
        meta: Json = {"capacity": self.capacity, "rearranged": self.rearranged}
        return meta, arrays | {"slot_P": self.slot_P}

    def load_state(self, meta: Json, arrays: Mapping[str, Array]) -> None:
        self.capacity, self.rearranged = int(meta["capacity"]), int(meta["rearranged"])
        for name in _OF_GROUPS:
            vars(self)[name] = np.array(arrays[name], np.int64)
        self.slot_P = np.array(arrays["slot_P"], np.int32)
        self._index()

    def _index(self) -> None:
        """What follows from the state: groups by key, and where each begins."""
        self._order_G = np.append(np.argsort(self.key_G, kind="stable"), -1)
        self._sorted_G = np.append(np.sort(self.key_G), _NO_KEY)  # so that every search ends inside
        self._full = False  # whether every group is known to be, until quotas change
        self._quotas: list[int] = self.quota_G.tolist()
        self._group_of = {key: group for group, key in enumerate(self.key_G.tolist())}
        self.start_G = np.cumsum(self.quota_G) - self.quota_G
        self._last_M = np.empty(self.capacity, np.int32)  # the last row of a batch for a slot
        self.moves += 1

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
            before = len(self.evicted)
            self._add(int(key_B[start]))
            if start and len(self.evicted) > before:
                gone_M = np.zeros(self.capacity, np.bool_)
                gone_M[self.evicted[-1]] = True
                slot_B[(slot_B >= 0) & gone_M[slot_B]] = -1
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
        at_B = np.where(
            filled_B < quota_B,
            filled_B,
            (uniform_B * (self.seen_G[group_B] + rank_B + 1)).astype(np.int64),
        )
        count_G = np.bincount(group_B, minlength=len(self.key_G))
        self.seen_G += count_G
        np.minimum(self.quota_G, self.filled_G + count_G, out=self.filled_G)
        self.moves += 1
        slot_B = np.full(len(group_B), -1, np.int64)
        kept = np.flatnonzero(at_B < quota_B)
        slot_B[kept] = self.slot_P[self.start_G[group_B[kept]] + at_B[kept]]
        return slot_B

    def _replace(self, group_B: Array, uniform_B: Array, quota_B: Array) -> Array:
        """Groups that are full, the usual case later on: few rows have a chance, only those are looked at."""
        slot_B = np.full(len(group_B), -1, np.int64)
        row_N = np.flatnonzero(uniform_B * (self.seen_G[group_B] + 1) < quota_B)
        if row_N.size:
            group_N = group_B[row_N]
            at_N = self._draws(group_B, row_N, uniform_B[row_N])
            kept = at_N < quota_B[row_N]
            slot_B[row_N[kept]] = self.slot_P[self.start_G[group_N[kept]] + at_N[kept]]
        self.seen_G += np.bincount(group_B, minlength=len(self.key_G))
        self._full = bool((self.filled_G >= self.quota_G).all())
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
        self._rearrange(self.policy.quotas(self.key_G, self.capacity), self.capacity)

    def _filled_P(self) -> Array:
        """Places whose slots hold rows."""
        used_G = np.repeat([[True, False]], len(self.quota_G), axis=0).ravel()
        count_G = np.stack([self.filled_G, self.quota_G - self.filled_G], axis=1).ravel()
        rest = len(self.slot_P) - int(self.quota_G.sum())
        return np.repeat(np.append(used_G, False), np.append(count_G, rest))

    def _rearrange(self, quota_G: Array, capacity: int) -> tuple[Array, Array]:
        """New quotas; what no longer fits is evicted uniformly at random from its group."""
        self.rearranged += 1
        filled_P = self._filled_P()
        over = np.flatnonzero(self.filled_G > quota_G)
        if over.size:
            gone_P = self._chosen(over, quota_G)
            self.evicted.append(self.slot_P[gone_P])
            filled_P &= ~gone_P
            self.filled_G = np.minimum(self.filled_G, quota_G)
        return self._lay(filled_P, quota_G, capacity)

    def _chosen(self, over_O: Array, quota_G: Array) -> Array:
        """Places to empty, bool [P]: of each group in `over_O` as many as it has above its quota.

        Whichever is less, those that go or those that stay, are drawn with replacement until enough different
        ones are found: by symmetry every subset of that size is equally likely.
        """
        filled_O, first_O = self.filled_G[over_O], np.cumsum(self.quota_G)[over_O]
        first_O = first_O - self.quota_G[over_O]
        stays_O = quota_G[over_O]
        goes_O = filled_O - stays_O
        left_O = np.minimum(goes_O, stays_O)
        drawn_P = np.zeros(len(self.slot_P), np.bool_)
        used = 0
        while left_O.any():
            each_N = np.repeat(np.arange(len(over_O)), left_O)
            draw_N = rng.uniform(self.seed, self.purpose, self.rearranged, len(each_N), start=used)
            used += len(each_N)
            at_N = first_O[each_N] + (draw_N * filled_O[each_N]).astype(np.int64)
            new_N, place = np.unique(at_N, return_index=True)
            fresh = ~drawn_P[new_N]
            drawn_P[new_N] = True
            left_O = left_O - np.bincount(each_N[place[fresh]], minlength=len(over_O))
        for first, filled in zip(
            first_O[stays_O < goes_O].tolist(), filled_O[stays_O < goes_O].tolist(), strict=True
        ):
            drawn_P[first : first + filled] ^= True  # those that stay were drawn
        return drawn_P

    def _lay(self, kept_P: Array, quota_G: Array, capacity: int) -> tuple[Array, Array]:
        """Lay out the slots for new quotas, the free ones ascending; kept slots beyond the capacity move to free ones."""
        slot_N = self.slot_P[kept_P]
        free_M = np.ones(max(capacity, self.capacity), np.bool_)
        free_M[slot_N] = False
        free_F = np.flatnonzero(free_M[:capacity]).astype(np.int32)
        moved = np.flatnonzero(slot_N >= capacity)
        source, target = slot_N[moved], free_F[: len(moved)]
        slot_N[moved] = target
        self.capacity, self.quota_G = capacity, quota_G
        self.slot_P = np.empty(capacity, np.int32)
        filled_P = self._filled_P()
        self.slot_P[filled_P] = slot_N
        self.slot_P[~filled_P] = free_F[len(moved) :]
        self._index()
        return source.astype(np.int64), target.astype(np.int64)


def _ranks(group_B: Array) -> Array:
    """How many earlier rows of the batch are in the same group, int64 [B]."""
    order = np.argsort(group_B, kind="stable")
    sorted_B = group_B[order]
    starts = np.flatnonzero(np.concatenate([[True], sorted_B[1:] != sorted_B[:-1]]))
    sizes = np.diff(np.append(starts, len(group_B)))
    rank_B = np.empty(len(group_B), np.int64)
    rank_B[order] = np.arange(len(group_B)) - np.repeat(starts, sizes)
    return rank_B
