"""Mending what is wrong with the log: a server that was away, a stream that went back.

Everything here may fail half-way and is then tried again, so nothing changes before the server has answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.cut import position_of
from daemon.reader import Reader

if TYPE_CHECKING:
    from daemon.loop import Loop
    from daemon.reader import StreamRegressed


def reconnect(loop: Loop) -> None:
    """The last write may or may not have happened: the server's mark decides, and everything is re-checked."""
    if loop.ensure_broker is not None:
        loop.ensure_broker()
    loop.source.renew()
    loop.machine.outbox.drop_covered(loop.source.sent_mark())
    loop.reader.reconnected()
    loop.health.bounds(loop.reader.fence())
    if not loop.durability.committer.is_due:
        loop.reader.display(loop.durability.committer.shown)  # producers look at it from the start


def regressed(loop: Loop, error: StreamRegressed) -> None:
    """A new epoch from the newest watermark that still exists, durable before anything is read."""
    with loop.health.busy("checkpoint"):
        loop.durability.wait(loop)
    bounds = loop.source.bounds()
    retained = [position_of(header) for header in loop.durability.checkpointer.retained()]
    position = loop.reader.regress(retained)
    process, machine = loop.process, loop.machine
    process.epoch += 1
    process.regressions += 1
    process.displayed = "0-0"
    process.reread_until = bounds.last_id
    loop.durability.committer.restart(position)
    machine.rereading = True
    machine.outbox.epoch = process.epoch
    machine.counters.lost_events += error.lost_at_least
    machine.counters.lost_is_lower_bound = True
    loop.reader = Reader(loop.source, position, process.displayed)
    loop.steering.round.end()
    detail = {
        "detail": error.detail,
        "lost_at_least": error.lost_at_least,
        "resumed_at": position.id,
        "epoch": process.epoch,
    }
    loop.journal("stream_regressed", detail)
    loop.health.fault("stream_regressed", error.detail)
    with loop.health.busy("checkpoint"):
        loop.durability.stage(loop)
        loop.durability.wait(loop)
