"""What the operator has asked for and when it is answered: pause, resume, drain, checkpoint, publish, signals.

A command that changes durable state is answered once a checkpoint that contains the change is durable.
"""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING

from daemon import rollback
from daemon.appraisal import appraise, narrowed
from daemon.errors import Refused
from daemon.rollback import Plan
from daemon.rounds import Round
from daemon.types import SCHEDULE

if TYPE_CHECKING:
    from types import FrameType

    from daemon.checkpointer import Failed, Written
    from daemon.loop import Loop
    from daemon.types import Json, Request

DRAIN_COMMIT_S = (
    5.0  # how long a drain waits for a server that is gone; the next start brings it up to date
)
DRAIN_TRIES = (
    3  # failed checkpoints after which a drain ends all the same, on the checkpoint before
)
# s that a publication waits for the decision which weights are published; then it goes by the last one. Only a long backlog
# of the log takes longer.
PUBLISH_WAIT_S = 5.0


class Steering:
    """The loop's answers to the control socket (the Steerable protocol) and to signals."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._waiting: list[Request] = []  # for a checkpoint that is not staged yet
        self._in_flight: list[Request] = []  # for the one being written
        self._draining = False
        self._drain_staged = False
        self._drain_durable_at: float | None = None
        self._failures = 0
        self._diverged = ""
        self._rollbacks: list[tuple[Request, Plan]] = []
        self._report: Json = {}
        self._reported_at: tuple[int, str, int] | None = None  # epoch, watermark, step
        self._to_publish: list[tuple[float, str, Request]] = []  # until when each waits, who asks
        self.round = Round(loop)
        self._wake = threading.Event()
        self.is_drained = False
        self.exit_code = 0

    # -- state the loop looks at -------------------------------------------------------------------------------

    @property
    def stopped_because(self) -> str:
        """Why nothing is read, or the empty string."""
        if self._draining:
            return "draining"
        if self._diverged:
            return "diverged"
        return "paused" if self._loop.process.paused is not None else ""

    @property
    def is_stopped(self) -> bool:
        return bool(self.stopped_because)

    @property
    def wants_checkpoint(self) -> bool:
        return bool(self._waiting) or (self._draining and not self._drain_staged)

    def look(self) -> None:
        """Whatever time changes: a pause that ends, a drain that is complete."""
        until = self._loop.process.paused_until
        if until is not None and datetime.now(UTC) >= datetime.fromisoformat(until):
            self._unpause()
        self._publish_decided()
        if self._drain_durable_at is not None:
            late = monotonic() - self._drain_durable_at > DRAIN_COMMIT_S
            if late or not self._loop.durability.committer.is_due:
                self._finish(0)

    def sleep(self, seconds: float) -> None:
        """Sleep, but wake at once on a signal."""
        self._wake.wait(seconds)

    # -- the Steerable protocol --------------------------------------------------------------------------------

    def pause(self, request: Request) -> Json | None:
        """Stop reading and training, durably: a restart stays paused."""
        reason = str(request.args.get("reason") or "no reason given")
        self._loop.process.paused = reason
        self._loop.process.paused_until = request.args.get("until")
        self._loop.journal("paused", {"reason": reason, "by": request.args.get("by", "")})
        self._waiting.append(request)
        return None

    def resume(self, request: Request) -> Json | None:
        """Go on; also after a divergence, when the operator thinks the cause is gone."""
        if not self.is_stopped:
            return {"state": "running", "changed": False}
        if self._draining:
            raise Refused("the daemon is draining and will exit; start it again instead")
        self._diverged = ""
        self._unpause()
        self._waiting.append(request)
        return None

    def drain(self, request: Request) -> Json | None:
        """Stop reading, make everything durable, exit 0; pending rows stay pending."""
        self._start_drain("operator")
        self._waiting.append(request)
        return None

    def checkpoint(self, request: Request) -> Json | None:
        self._waiting.append(request)
        return None

    def publish(self, request: Request) -> Json | None:
        """Evaluate, then publish with the next checkpoint; by schedule only where something was learned since the last time."""
        loop, by = self._loop, str(request.args.get("by") or "operator")
        here = (loop.process.epoch, loop.reader.position.id)
        if by == SCHEDULE and (
            not loop.machine.engine.step_count or loop.durability.publication.latest() == here
        ):
            return {"published": None}
        self.round.begin()
        self._to_publish.append((monotonic() + PUBLISH_WAIT_S, by, request))
        return None

    def _publish_decided(self) -> None:
        """Let publications go on once all was evaluated, or cannot be: nothing is read, or it takes too long."""
        is_read = self._loop.health.broker_up and not self.is_stopped
        waits = self.round.is_under_way and is_read
        while self._to_publish and not (waits and monotonic() < self._to_publish[0][0]):
            _, by, request = self._to_publish.pop(0)
            self._loop.durability.publication.ask(by)
            self._waiting.append(request)

    def score(self, request: Request) -> Json | None:
        """Have every hold-out scored, some tasks at a time, unless nothing was learned since the last time."""
        del request
        return {"appended": self.round.write() if self.round.begin() else None}

    def accept(self, request: Request) -> Json | None:
        """Write the decision into the log that a task's present level is its measure from now on."""
        task = str(request.args["task"])
        tasks = self._loop.machine.engine.tasks
        if task not in tasks:
            raise Refused(f"no task {task!r}; there are {', '.join(tasks) or 'none'}")
        at = self._loop.reader.position.id
        proof = self._loop.machine.judgement.acceptance(task, at)
        return {
            "task": task,
            "appended": self._loop.decide("accept", task=task, at=at, proof=proof),
        }

    def roll_back(self, request: Request) -> Json | None:
        """Plan it, or have it done before the next entry is read; answered once it is durable."""
        args = request.args
        skips = tuple((first, last) for first, last in args.get("skips", ()))
        plan = Plan(
            args["seq"], skips, bool(args.get("skip_to_now")), str(args.get("by", "")), str(args.get("reason", ""))
        )  # fmt: skip
        told = rollback.look(self._loop, plan)
        if args.get("dry_run"):
            return told
        self._rollbacks.append((request, plan))
        return None

    def rollback(self) -> bool:
        """Carry out the rollbacks that were asked for; whether there was one. Faults of the server are the loop's."""
        done = False
        while self._rollbacks:
            request, plan = self._rollbacks[0]
            try:
                request.reply(rollback.roll_back(self._loop, plan))
                done = True
            except Refused as error:
                request.reply({"error": str(error), "exit_code": error.exit_code})
            self._rollbacks.pop(0)
        return done

    def rolled_back(self) -> None:
        """The weights are older ones: what diverged is gone, and so is an evaluation under way."""
        self.round.end()
        self._diverged = ""

    def promote(self, request: Request) -> Json | None:
        """Make a published snapshot the champion."""
        return self._champion(request, self._loop.durability.publication.promote(request.args))

    def demote(self, request: Request) -> Json | None:
        """Give the champion's place back to the one before."""
        return self._champion(request, self._loop.durability.publication.demote())

    def _champion(self, request: Request, told: Json) -> Json:
        """The champion was chosen by hand: the journal and the hook are told."""
        why = {"by": request.args.get("by", ""), "reason": request.args.get("reason", "")}
        self._loop.journal(f"{request.name}d", {**told, **why})
        self._loop.durability.promoted(str(why["reason"] or "operator"))
        return told

    def evaluate(self, request: Request) -> Json | None:
        """Score every hold-out now, once for all who ask at the same place; changes nothing."""
        machine = self._loop.machine
        here = (self._loop.process.epoch, self._loop.reader.position.id, machine.engine.step_count)
        if here != self._reported_at:
            self._report, self._reported_at = appraise(machine), here
        return narrowed(self._report, request.args.get("tasks", ()))

    def tasks(self, request: Request) -> Json | None:
        del request
        return {"tasks": self._loop.machine.engine.describe()["tasks"]}

    # -- what becomes of checkpoints -----------------------------------------------------------------------------

    def staged(self) -> None:
        """A cut was taken now: it contains all that was asked so far."""
        self._in_flight += self._waiting
        self._waiting = []
        self._drain_staged = self._draining

    def durable(self, written: Written) -> None:
        """The cut is durable: everybody who waited for it gets an answer."""
        done, self._in_flight = self._in_flight, []
        self._failures = 0
        for request in done:
            snapshot = self._loop.health.last_snapshot
            request.reply({"seq": written.seq, "step": written.header["step"], "snapshot": snapshot,
                           "state": self.stopped_because or "running"})  # fmt: skip
        if self._drain_staged:
            self._drain_durable_at = monotonic()

    def failed(self, outcome: Failed) -> None:
        """The cut could not be written: say so, and stop training when the weights themselves are the reason."""
        done, self._in_flight = self._in_flight, []
        for request in done:
            request.reply({"error": f"the checkpoint failed: {outcome.reason}; mend that, it is tried again by itself",
                           "exit_code": 8 if outcome.not_finite else 75})  # fmt: skip
        self._failures += 1
        self._drain_staged = False
        if outcome.not_finite:
            if not self._diverged:  # once, since each further attempt fails in the same way
                self._loop.journal("diverged", {"reason": outcome.reason})
            self._diverged = outcome.reason
        if self._draining and (outcome.not_finite or self._failures >= DRAIN_TRIES):
            self._finish(8)

    # -- signals -------------------------------------------------------------------------------------------------

    def listen(self) -> None:
        """SIGTERM and SIGINT drain; a second one leaves at once, which loses nothing that is durable."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self._draining:
            os._exit(128 + number)
        self._start_drain(signal.Signals(number).name)
        self._wake.set()

    def _start_drain(self, by: str) -> None:
        if not self._draining:
            self._draining = True
            self._loop.health.draining(by)

    def _finish(self, exit_code: int) -> None:
        self.exit_code = exit_code
        self.is_drained = True

    def _unpause(self) -> None:
        self._loop.process.paused = None
        self._loop.process.paused_until = None
        self._loop.journal("resumed", {})
