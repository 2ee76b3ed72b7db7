"""The ring of the last R event keys: what was already applied or refused is never applied again.

The ring is inside the checkpoint and rolls back with it, so it is the truth where the log's ids are not
(a producer sent twice, a stream that was restored from an older file).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from daemon.errors import IntegrityError
from daemon.identity import KEY_BYTES, NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

Verdict = Literal["new", "duplicate", "reused"]
SEGMENT_KEYS = (
    8192  # keys in one segment of a checkpoint: 256 KiB, the unit in which the ring is rewritten
)


class Ring:
    """The last `capacity` keys in order of arrival; look-up and insertion take constant time.

    Bound: `capacity` x 32 bytes on disk, about 250 bytes a key in memory.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.added = 0
        self.is_rearranged = (
            False  # loaded from a ring of another capacity: no slot is as it was saved
        )
        self._keys = np.zeros((capacity, KEY_BYTES), np.uint8)
        self._digests_of: dict[bytes, tuple[bytes, ...]] = {}  # by name, the oldest first

    def check(self, key: bytes) -> Verdict:
        """Whether this event is new, was seen as it is, or carries a known id with another payload.

        One that was refused for such an id is remembered too: read or sent again it is a duplicate.
        """
        digests = self._digests_of.get(key[:NAME_BYTES])
        if digests is None:
            return "new"
        return "duplicate" if key[NAME_BYTES:] in digests else "reused"

    def add(self, key: bytes) -> None:
        """Remember a key that `check` did not call a duplicate; a full ring forgets its oldest one."""
        slot = self.added % self.capacity
        if self.added >= self.capacity:
            self._forget_oldest_of(self._keys[slot, :NAME_BYTES].tobytes())
        self._keys[slot] = np.frombuffer(key, np.uint8)
        self._remember(key)
        self.added += 1

    def _remember(self, key: bytes) -> None:
        name = key[:NAME_BYTES]
        self._digests_of[name] = (*self._digests_of.get(name, ()), key[NAME_BYTES:])

    def _forget_oldest_of(self, name: bytes) -> None:
        left = self._digests_of.pop(name)[1:]
        if left:
            self._digests_of[name] = left

    def segments(self) -> dict[str, tuple[int, np.ndarray]]:
        """The used part of the ring by name: (version, keys); a version moves when its keys do."""
        used = min(self.added, self.capacity)
        found: dict[str, tuple[int, np.ndarray]] = {}
        for start in range(0, used, SEGMENT_KEYS):
            stop = min(start + SEGMENT_KEYS, used)
            found[f"ring-{start // SEGMENT_KEYS}"] = (
                self._writes_in(start, stop),
                self._keys[start:stop],
            )
        return found

    def _writes_in(self, start: int, stop: int) -> int:
        """How many keys were ever written to slots start..stop: whole rounds plus the part of this round."""
        rounds, place = divmod(self.added, self.capacity)
        return rounds * (stop - start) + min(max(place - start, 0), stop - start)

    def load(self, added: int, segments: Mapping[str, np.ndarray]) -> None:
        """Take over a saved ring; a ring of another capacity keeps its newest keys."""
        saved = [
            segments[name]
            for name in sorted(segments, key=lambda name: int(name.rpartition("-")[2]))
        ]
        keys = np.concatenate(saved) if saved else np.zeros((0, KEY_BYTES), np.uint8)
        if keys.shape[1:] != (KEY_BYTES,) or len(keys) > added:
            msg = f"the de-duplication ring has {len(keys)} keys of shape {keys.shape[1:]}, {added} were added"
            raise IntegrityError(msg)
        if len(keys) and len(keys) < added:
            keys = np.roll(keys, -(added % len(keys)), axis=0)  # oldest first
        self.is_rearranged = len(keys) != min(added, self.capacity)
        if not self.is_rearranged:
            self._restore(added, keys)
            return
        self._restore(0, keys[:0])
        for key in keys[-self.capacity :]:
            self.add(key.tobytes())

    def _restore(self, added: int, oldest_first: np.ndarray) -> None:
        self.added = added
        self._keys[:] = 0
        self._keys[: len(oldest_first)] = oldest_first
        if added > self.capacity:
            self._keys = np.roll(self._keys, added % self.capacity, axis=0)
        self._digests_of = {}
        for key in oldest_first:
            self._remember(key.tobytes())
