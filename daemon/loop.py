"""The loop: read the log, move the machine, keep time with everything else; one thread.

A tick reads some entries and applies each whole. Between two moves of the machine there is a barrier, the
only place where time, commands and files are looked at. Nothing here decides what is learned: what a clock or
an operator wants changed is first written into the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from daemon import repair, rollback
from daemon.commands.handlers import apply
from daemon.durability import Durability
from daemon.errors import BrokerFull, BrokerUnreachable, StreamExhausted
from daemon.events.control import decision
from daemon.failpoints import reach
from daemon.identity import id_tuple
from daemon.notify import Pulse
from daemon.reader import StreamRegressed
from daemon.steering import Steering

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.checkpointer import Checkpointer
    from daemon.config import Config
    from daemon.cut import Process
    from daemon.health import Health
    from daemon.machine import LogMachine
    from daemon.publication import Publication
    from daemon.reader import Reader
    from daemon.types import Entry, EventSource, Json, Request

# s; how often a busy loop looks up: commands and finished checkpoints wait at most this long
BARRIER_S = 0.02
IDLE_S = 0.1  # how long an idle loop sleeps on the log at a time
FENCE_S = 1.0  # how often the server is asked whether anything was lost
SCORING = (b"mtl.task.switch.v1", b"mtl.control.v1")  # may score every hold-out
BACK_OFF_S = (0.05, 2.0)  # first and longest wait between two attempts to reach the server


@dataclass(slots=True)
class Parts:
    """Everything a loop is made of."""

    config: Config
    machine: LogMachine
    source: EventSource
    reader: Reader
    checkpointer: Checkpointer
    publication: Publication
    process: Process
    health: Health
    requests: SimpleQueue[Request]


class Loop:
    """Owns the machine and everything around it; made by `daemon.app`, run once."""

    def __init__(self, parts: Parts) -> None:
        self.machine = parts.machine
        self.source = parts.source
        self.reader = parts.reader
        self.process = parts.process
        self.health = parts.health
        self.ensure_broker: Callable[[], object] | None = None  # restarts an embedded server
        self.durability = Durability(parts)
        self.steering = Steering(self)
        self.config = parts.config
        self._requests = parts.requests
        self._pulse = Pulse()
        self._next_barrier = 0.0
        self._next_renewal = 0.0
        self._next_fence = 0.0
        self._waiting_since: float | None = None  # the oldest pending row, for linger
        self._flushed_at: tuple[int, str] | None = None
        self._marked: dict[str, tuple[int, str]] = {}  # by task: epoch and phase written last
        self._back_off = BACK_OFF_S[0]
        self._is_out: set[str] = set()  # faults of the server that last; each is journalled once
        self._broken: Exception | None = BrokerUnreachable("the server was not looked at yet")

    # -- life ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Tick until drained. Faults of the server are waited out; a lease held by another ends the process."""
        while not self.steering.is_drained:
            try:
                self._repair()
                self.health.broker_up = True
                self._tick()
                self._back_off = BACK_OFF_S[0]
                self._is_out.clear()
            except StreamRegressed as error:
                self._broken = error
            except StreamExhausted as error:
                self._wait_out("stream_exhausted", error)
            except BrokerFull as error:
                self._wait_out("broker_full", error)
            except BrokerUnreachable as error:
                self._broken = self._broken or error
                self.health.broker_up = False
                self._wait_out("broker_down", error)
        self.health.stopped(self)

    def _repair(self) -> None:
        if isinstance(self._broken, StreamRegressed):
            repair.regressed(self, self._broken)
            self._flushed_at = None
        elif self._broken is not None:
            repair.reconnect(self)
        self._broken = None

    def _wait_out(self, state: str, error: Exception) -> None:
        self.health.fault(state, str(error))
        self.health.state(state, str(error))
        if state not in self._is_out:
            self._is_out.add(state)
            self.journal(state, {"detail": str(error)})
        self._sleep(self._back_off)
        self._back_off = min(self._back_off * 2, BACK_OFF_S[1])

    def _sleep(self, seconds: float) -> None:
        """Sleep, but answer the operator meanwhile; the server is not touched."""
        until = monotonic() + seconds
        while not self.steering.is_drained:
            self._look_around()
            left = until - monotonic()
            if left <= 0:
                return
            self.steering.sleep(min(left, IDLE_S))

    # -- one tick ----------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._barrier(force=True)
        self._roll_back()
        if self.steering.is_stopped or self.machine.outbox.is_full:
            state = self.steering.stopped_because or "outbox_full"
            self.health.state(state, (self.process.paused or "") if state == "paused" else "")
            if monotonic() >= self._next_fence:  # the lag grows although nothing is read
                self._next_fence = monotonic() + FENCE_S
                self.health.bounds(self.source.bounds())
            self._sleep(IDLE_S)
            return
        self._train()
        self._look_for_losses()
        entries = self.reader.read(self.config.stream.read_count)
        reach("read")
        for entry in entries:
            self._enter(entry)
            self._train()
            if self.steering.is_stopped:
                return
        if not entries:
            self._idle()

    def _enter(self, entry: Entry) -> None:
        """Apply one entry whole: machine, watermark, and any loss that shows belong to the same cut."""
        self.health.state("training")
        switched = self.machine.last_switch
        key = self._applied(entry)
        self.durability.applied(sum(map(len, entry.fields.values())))
        try:
            self.reader.advance(entry, key)
        finally:
            self.count_losses()
        reach("entered")
        if self.machine.rereading and id_tuple(entry.id) >= id_tuple(self.process.reread_until):
            self.machine.rereading = False
        if switched is not self.machine.last_switch:
            reach("switched")
            self.durability.publication.after_switch()
            self.durability.ask()
        self._waiting_since = self._waiting_since or monotonic()

    def _roll_back(self) -> None:
        """What an operator asked for, or what the guard is set to do when a task fell after a switch."""
        acts = self.config.guard.action == "rollback"
        if self.steering.rollback() or (acts and rollback.before_switch(self)):
            self._waiting_since = self._flushed_at = None

    def _applied(self, entry: Entry) -> bytes:
        """Let the machine apply it; a switch scores every hold-out, which may take longer than a tick should."""
        if self.process.skips and rollback.is_left_out(self.process, entry.id):
            key = self.machine.pass_over(entry)
        elif entry.fields.get(b"type") not in SCORING:
            key = self.machine.enter(entry)
        else:
            before, begin = self.machine.last_switch, monotonic()
            step = self.machine.engine.step_count
            with self.health.busy("evaluation"):
                key = self.machine.enter(entry)
            if before is not self.machine.last_switch:
                self.health.switched(self.machine, begin)
            elif self.machine.engine.step_count > step:
                self.health.stepped(self.machine)
        self.health.arrivals.applied(entry.id)
        return key

    def _train(self) -> None:
        while True:
            self._mark_phases()
            begin = monotonic()
            if not self.machine.train_one():
                return
            self.health.step_seconds.add(monotonic() - begin)
            self.health.stepped(self.machine)
            reach("stepped")
            self._waiting_since = None
            self._barrier()
            if self.steering.is_stopped:
                return

    def _idle(self) -> None:
        """Nothing to read: flush what lingers, make what was applied durable, then sleep on the log."""
        self._linger()
        self.durability.idle()
        self.health.state("idle")
        self._barrier(force=True)
        self.source.wait(self.reader.position.id, IDLE_S)

    def _linger(self) -> None:
        """Write a flush into the log once rows have waited `linger_s` for their batch to fill."""
        now = monotonic()
        if not len(self.machine.batcher):
            self._waiting_since = None
            return
        self._waiting_since = self._waiting_since or now
        here = (self.process.epoch, self.reader.position.id)
        if now - self._waiting_since >= self.config.stream.linger_s and self._flushed_at != here:
            self.decide("flush")
            self._flushed_at = here

    def _look_for_losses(self) -> None:
        now = monotonic()
        if now >= self._next_fence:
            self._next_fence = now + FENCE_S
            try:
                self.health.bounds(self.reader.fence())
            finally:
                self.count_losses()

    def count_losses(self) -> None:
        """Take over what the reader found missing, before the watermark that is past it becomes durable."""
        lost = self.reader.take_lost()
        if lost:
            self.machine.counters.lost_events += lost
            self.durability.ask()
            self.health.fault("events_lost", f"{lost} entries were removed before they were read")
            self.journal("events_lost", {"events": lost, "before": self.reader.position.id})

    def _mark_phases(self) -> None:
        """Write the phases that were detected into the log, each once; after a restart once more, as the same event."""
        waiting = self.machine.phases.waiting
        if not waiting:
            self._marked.clear()
        for task, one in waiting.items():
            if self._marked.get(task) != (self.process.epoch, one["phase"]):
                self.decide("phase", one["after"], task=task, phase=one["phase"])
                self._marked[task] = (self.process.epoch, one["phase"])

    def decide(self, kind: str, after: str = "", **detail: str) -> str:
        """Write a decision into the log, where it takes effect when it is read back; returns its entry's id."""
        watermark = after or self.reader.position.id
        return self.source.append(decision(kind, self.process.epoch, watermark, detail))

    def journal(self, kind: str, detail: Json) -> None:
        """Write one line for the operators; it leaves with the next durable checkpoint."""
        self.machine.outbox.add("journal", {"kind": kind, "detail": detail})

    # -- between two moves -------------------------------------------------------------------------------------

    def _barrier(self, force: bool = False) -> None:
        """Answer the operator, finish and start checkpoints, renew the lease, show what is durable."""
        now = monotonic()
        if now < self._next_barrier and not force and not self.durability.is_urgent:
            return
        self._next_barrier = now + BARRIER_S
        self._look_around()
        if now >= self._next_renewal:
            self._next_renewal = now + self.config.lease_ttl_s / 3
            self.source.renew()
        self.durability.commit(self)
        self.steering.round.more()

    def _look_around(self) -> None:
        """The part of a barrier that needs no server."""
        while True:
            try:
                apply(self.steering, self._requests.get_nowait())
            except Empty:
                break
        self.steering.look()
        self.durability.look(self)
        self.health.write(self)
        self._pulse.beat(*self.health.condition)
