"""Which checkpoints stay: the newest for a crash, some older ones an hour apart for a rollback."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

APART_S = 3600.0


def retained(
    lineage: Sequence[int], stamps: Mapping[int, str], keep: int, hourly: int
) -> list[int]:
    """What is kept of a lineage, newest first: its newest `keep`, and before them `hourly` that are an hour apart.

    With two or more of those, some checkpoint is always at least an hour old once the daemon has run so long; before
    that it is the first one. The oldest kept checkpoint also says how much of the log stays. One without a stamp is
    damaged; it stays among the newest only.
    """
    spaced: list[int] = []
    for seq in reversed(lineage[keep:]):
        if seq in stamps and (not spaced or _apart_s(stamps[spaced[-1]], stamps[seq]) >= APART_S):
            spaced.append(seq)
    return [*lineage[:keep], *reversed(spaced[-hourly:] if hourly else [])]


def _apart_s(older: str, newer: str) -> float:
    return (datetime.fromisoformat(newer) - datetime.fromisoformat(older)).total_seconds()
