"""When a cut is taken, and what follows once it is durable: answers, the outside, published snapshots."""

from __future__ import annotations

from contextlib import nullcontext
from queue import SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING

from daemon import releases
from daemon.checkpointer import Failed
from daemon.commit import Committer
from daemon.cut import take
from daemon.errors import BrokerFull
from daemon.hooks import Hooks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from daemon.checkpointer import Written
    from daemon.loop import Loop, Parts
    from daemon.reader import Position
    from daemon.types import Json

IDLE_S = 0.25  # an idle loop makes its state durable this soon, so that producers at their bound may go on
# s from a checkpoint that failed to the next, doubling from the first to the longest: a full disk is not helped by
# writing to it. One that somebody waits for is tried at once.
RETRY_S = (1.0, 60.0)
FULL_RETRY_S = (
    0.5  # how often a full server is asked again whether it takes dead letters and journal lines
)


class Durability:
    """Owns the rhythm of checkpoints; the cut itself is the checkpointer's, the outside the committer's."""

    def __init__(self, parts: Parts) -> None:
        self.checkpointer = parts.checkpointer
        self.publication = parts.publication
        self.committer = Committer(parts.source, parts.config.stream, parts.reader.position)
        self.log_bytes = (
            0  # of all entries ever applied; the difference of two cuts is the log between them
        )
        self._outcomes: SimpleQueue[tuple[bool, str]] = SimpleQueue()
        self.hooks = Hooks(parts.config.hook, lambda ok, detail: self._outcomes.put((ok, detail)))
        self._config = parts.config
        self._machine = parts.machine
        self._health = parts.health
        self._events_since = 0  # entries applied since the last cut was taken
        self._staged_step = parts.machine.engine.step_count
        self._staged_seq = parts.machine.outbox.last_seq
        self._staged_at = monotonic()
        self._asked = False
        self._retry_s = RETRY_S[0]
        self._retry_at = 0.0  # no checkpoint that nobody waits for is tried before
        self._next_commit = 0.0
        self._is_full = False  # the server took no dead letters and journal lines when last asked

    @property
    def is_urgent(self) -> bool:
        """Whether a cut should be taken at the next barrier, however soon that is."""
        return self._asked and monotonic() >= self._retry_at

    def ask(self) -> None:
        """Take a cut at the next barrier, or as soon as one may be tried again after one that failed."""
        self._asked = True

    def applied(self, size: int) -> None:
        """One entry of `size` bytes was applied; half of what producers may leave unread makes a cut due."""
        self.log_bytes += size
        self._events_since += 1
        if self._events_since * 2 >= self._config.stream.max_unread:
            self._asked = True

    def idle(self) -> None:
        """Nothing is there to read: what was applied should be durable soon, but not at the disk's full speed."""
        wait_s = max(IDLE_S, 4 * self._health.write_s)
        if self._is_dirty and monotonic() - self._staged_at >= wait_s:
            self._asked = True

    def look(self, loop: Loop) -> None:
        """Finish a cut that was written, take one that is due; touches no server."""
        outcome = self.checkpointer.poll()
        if outcome is not None:
            self._settle(outcome, loop)
        self._tell_of_hooks(loop)
        if loop.steering.is_drained:
            return  # nobody is left to settle another one
        aged = self._is_dirty and monotonic() - self._staged_at >= self._config.checkpoint.every_s
        due = (self._asked or aged or self.publication.is_due) and monotonic() >= self._retry_at
        if (due or loop.steering.wants_checkpoint) and not self.checkpointer.busy:
            self.stage(loop)

    def stage(self, loop: Loop) -> None:
        """Copy the state and start writing it; nothing waits for the disk."""
        loop.count_losses()  # the watermark is past them: a process that starts from this cut finds them no more
        intent = self.publication.intent(loop.process)
        if intent is not None:
            guard, action = self._machine.guard, self._config.guard.action
            held = guard.held if action != "alert" else ""
            with self._health.busy("evaluation"):
                self.publication.judge(intent, self._machine, held)
        header = {
            "outbox_seq": self._machine.outbox.last_seq,
            "log_bytes": self.log_bytes,
            "build": self._health.build,
            "publish": intent,
        }
        measures = self.publication.measures
        cut = take(self._machine, loop.reader.position, loop.process, header, measures)
        with self._health.busy("publishing") if intent is not None else nullcontext():
            then = self.publication.carry_out(intent, self._machine, cut.header)
        self.checkpointer.stage(cut, then)
        self._health.arrivals.staged()
        loop.steering.staged()
        self._staged_at = monotonic()
        self._events_since = 0
        self._staged_step = self._machine.engine.step_count
        self._staged_seq = self._machine.outbox.last_seq
        self._asked = False

    def commit(self, loop: Loop) -> None:
        """Show a durable cut outside. A full server does not stop the training: reading is what will free it."""
        if not self.committer.is_due or monotonic() < self._next_commit:
            return
        try:
            was_gone = self.committer.commit(self._machine.outbox, loop.process, loop.reader)
        except BrokerFull as error:
            self._next_commit = monotonic() + FULL_RETRY_S
            self._health.fault("broker_full", str(error))
            if not self._is_full:
                loop.journal("broker_full", {"detail": str(error)})
            self._is_full = True
            return
        self._is_full = False
        if was_gone:
            detail = "somebody removed the display group; made again"
            self._health.fault("group_missing", detail)
            loop.journal("group_missing", {"detail": detail})

    def wait(self, loop: Loop) -> None:
        """Wait for the cut being written, if one is."""
        outcome = self.checkpointer.wait()
        if outcome is not None:
            self._settle(outcome, loop)

    def resume_from(self, header: Json, loop: Loop) -> None:
        """Carry out what the checkpoint we start from has caused and its process may not have lived to do.

        Its journal line cannot have left, since it leaves with the next checkpoint; hooks may be told a second time.
        """
        self.log_bytes = int(header["log_bytes"])
        self._health.resumed(header)
        self.committer.durable(header, self.checkpointer.retained())
        finish = self.publication.carry_out(header["publish"], self._machine, header)
        if finish is not None:
            finish()
            self._tell_of_snapshots(loop)

    def promoted(self, reason: str) -> None:
        """The champion is another one: those who asked to be told are told, in a thread of their own."""
        name = releases.target(self.publication.models, "champion")
        if name is not None:
            path = self.publication.models / name
            self.hooks.notify({"version": int(name[1:]), "path": str(path), "reason": reason})

    def _tell_of_hooks(self, loop: Loop) -> None:
        while not self._outcomes.empty():
            ok, detail = self._outcomes.get_nowait()
            loop.journal("hook_done" if ok else "hook_failed", {"detail": detail})
            if not ok:
                self._health.count("hook_failures")
                self._health.fault("hook_failed", detail)

    def rolled_back(
        self, seq: int, header: Json, versions: Mapping[str, int], position: Position
    ) -> None:
        """The state is that of an older checkpoint now; the next cut descends from it."""
        self.checkpointer.descend(seq, versions)
        self.log_bytes = int(header["log_bytes"])
        self.committer.restart(position)

    @property
    def _is_dirty(self) -> bool:
        """Whether anything changed since the last cut was taken."""
        now = (self._machine.engine.step_count, self._machine.outbox.last_seq)
        return self._events_since > 0 or now != (self._staged_step, self._staged_seq)

    def _settle(self, outcome: Written | Failed, loop: Loop) -> None:
        if isinstance(outcome, Failed):
            self._failed(outcome)
            loop.steering.failed(outcome)
            return
        self._retry_s, self._retry_at = RETRY_S[0], 0.0
        self._health.checkpointed(outcome)
        self.committer.durable(outcome.header, self.checkpointer.retained())
        self._tell_of_snapshots(loop)
        loop.steering.durable(outcome)

    def _tell_of_snapshots(self, loop: Loop) -> None:
        for published in self.publication.outcomes():
            self._health.published(published)
            kind = "snapshot_failed" if published.error else "snapshot_published"
            verdict = published.verdict or {}
            told = {key: verdict.get(key) for key in ("decision", "reason", "against")}
            loop.journal(kind, {"version": published.version, "error": published.error, **told})
            if verdict.get("decision") == "promoted" and not published.error:
                self.promoted("gate")

    def _failed(self, outcome: Failed) -> None:
        """What the cut contained is not durable: the next one is due in time, but not at once."""
        self._events_since += 1
        if outcome.header["publish"] is not None:
            self.publication.ask(outcome.header["publish"]["reason"])
        detail = f"{outcome.reason[:200]}; tried again in at most {self._retry_s:g} s"
        self._health.checkpoint_failed(detail)
        self._retry_at = monotonic() + self._retry_s
        self._retry_s = min(2 * self._retry_s, RETRY_S[1])
