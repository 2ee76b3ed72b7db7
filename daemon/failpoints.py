"""Named places where a test may kill the process, so that every crash window is a test case.

`MTLD_FAILPOINT=name` kills with SIGKILL the first time `name` is reached, `name:3` the third time.
Without the variable a reach costs one dictionary look-up.
"""

from __future__ import annotations

import os
import signal

NAMES = (
    "lease_taken",  # the lease is ours, nothing was read
    "recovered",  # state loaded, no entry read
    "read",  # entries read, none applied
    "entered",  # one event's rows are pending
    "stepped",  # one optimizer step is done
    "switched",  # a task switch has been applied
    "control_sent",  # a decision was sent to the log, the reply not read
    "staged",  # tensors copied, nothing written
    "written",  # files written and fsynced in the temporary directory
    "renamed",  # the checkpoint has its final name, CURRENT still names the parent
    "current_swapped",  # the checkpoint is the current one, nothing has left the daemon
    "snapshot_written",  # a published snapshot is complete under its temporary name
    "snapshot_renamed",  # a published snapshot has its final name, no alias points to it
    "snapshot_aliased",  # `latest` points to it, the loop does not know yet
    "previous_swapped",  # a promotion: `previous` is the champion, `champion` still is too
    "snapshot_promoted",  # `champion` points to it, the loop does not know yet
    "champion_swapped",  # an operator's demotion: `champion` is the old one again, `previous` still is too
    "rolled_back",  # an older state is in memory, nothing of it is written as the current one
    "outbox_sent",  # dead letters and journal: EXEC was sent, the reply not read
    "outbox_done",  # the same, the reply read
    "displayed",  # the group shows the watermark
    "trimmed",  # the stream is trimmed
)


def _parse(value: str) -> dict[str, int]:
    if not value:
        return {}
    name, _, count = value.partition(":")
    if name not in NAMES:
        msg = f"MTLD_FAILPOINT names {name!r}, known are {', '.join(NAMES)}"
        raise ValueError(msg)
    return {name: int(count or 1)}


_armed: dict[str, int] | None = None


def reach(name: str) -> None:
    """Die here if this fail-point is armed and has been reached often enough."""
    global _armed
    if _armed is None:
        _armed = _parse(os.environ.get("MTLD_FAILPOINT", ""))
    left = _armed.get(name)
    if left is None:
        return
    if left <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    _armed[name] = left - 1
