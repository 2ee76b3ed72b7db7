"""`mtld drain`: the orderly end, the same as SIGTERM."""

from __future__ import annotations

import time

from daemon import vitals
from daemon.client import call as ask
from daemon.commands.shared import Call, Timeout, asker, told, verb
from daemon.errors import TimedOut

POLL_S = 0.05


@verb()
def drain(call: Call, timeout_s: Timeout = 60.0) -> None:
    """Stop reading, checkpoint, exit 0; returns when the process is gone.

    Rows that wait for a full batch are kept in the checkpoint, not trained early, so the next start goes on exactly
    where this one ended.
    """
    deadline = time.monotonic() + timeout_s
    seen = vitals.read(call.state_dir / vitals.NAME)
    reply = ask(call.state_dir, "drain", {"by": asker()}, timeout_s)
    while seen is not None and vitals.is_alive(seen):
        if time.monotonic() > deadline:
            raise TimedOut(
                f"everything is durable, but pid {seen.pid} still runs after {timeout_s:g} s; kill -9 is safe"
            )
        time.sleep(POLL_S)
    call.show(reply, lambda: [f"drained{told(reply)}; start again with `mtld run`"])
