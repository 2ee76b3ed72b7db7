"""The state machine: a log entry in, a new state out, and nothing else has a say.

No clock, no server, no file: `enter` applies one entry whole or turns it into a dead letter, `train_one` takes
one optimizer step when a batch is full. The same entries therefore give the same state, bit for bit, however
often the process died between them.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from daemon.batcher import Batcher
from daemon.dedup import Ring
from daemon.errors import BadEvent
from daemon.events import parse
from daemon.guard import Guard
from daemon.identity import event_key
from daemon.judgement import Judgement
from daemon.outbox import Outbox, dead_letter, declared_rows
from daemon.phases import Phases
from daemon.prepared import prepared
from daemon.senders import SenderNames
from daemon.types import Counters
from mtl_engine.errors import BadRows, EngineError
from mtl_engine.types import TaskSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from torch import Tensor

    from daemon.config import Stream
    from daemon.evaluation import Evaluation
    from daemon.types import Entry, Envelope, Json, Limits, Payload
    from mtl_engine.engine import Engine
    from mtl_engine.types import Rows

OWN_SOURCE = b"mtld"  # of the decisions that the daemon writes into its own log


class LogMachine:
    """What the log has made of the engine, the pending rows, the ring, the outbox and the counters.

    `enter` and `train_one` are the only two moves. A checkpoint may be taken between any two of them, never
    inside one.
    """

    def __init__(
        self, engine: Engine, stream: Stream, limits: Limits, guard: Guard | None = None, phases: Phases | None = None
    ) -> None:  # fmt: skip
        self.engine = engine
        self.phases = phases if phases is not None else Phases()
        engine.watch(self.phases.drift)
        self.batcher = Batcher(stream.batch_size, "task" if stream.mix == "task" else "log")
        self.ring = Ring(stream.dedup_events)
        self.outbox = Outbox()
        self.counters = Counters()
        self.senders = SenderNames()
        self.judgement = Judgement(engine, guard or Guard(min_rows=1), self.senders)
        self.rereading = False  # entries known from before a regression do not count as duplicates
        self.last_switch: Json = {}
        self.entry_id = ""  # where in the log it stands
        self.last_losses: Mapping[str, Tensor] = {}  # of the last step, on the device
        self._limits = limits

    @property
    def guard(self) -> Guard:
        return self.judgement.guard

    @property
    def evaluation(self) -> Evaluation:
        return self.judgement.evaluation

    # -- the two moves -------------------------------------------------------------------------------------

    def enter(self, entry: Entry) -> bytes:
        """Apply one entry: rows become pending, decisions take effect, bad events become dead letters.

        Returns the entry's key, which the reader keeps as the anchor.
        """
        self.entry_id = entry.id
        key = event_key(entry)
        verdict = self.ring.check(key)
        if verdict == "duplicate":
            self._count_duplicate(entry)
        elif verdict == "reused":
            self._bury(
                entry, "id_reused", "this source has sent the same id with another payload before"
            )
        else:
            self._apply(entry)
        if verdict != "duplicate":
            self.ring.add(key)
        return key

    def pass_over(self, entry: Entry) -> bytes:
        """Count an entry that a rollback leaves out; it leaves no other trace, so it may come again. Returns its key."""
        self.entry_id = entry.id
        self.counters.skipped_events += 1
        self.counters.skipped_rows += declared_rows(entry)
        return event_key(entry)

    def train_one(self) -> bool:
        """One optimizer step on the next full batch; False when none is full."""
        batch = self.batcher.full_batch()
        if batch is None:
            return False
        self._step(batch)
        return True

    # -- what an event may do (the Machine protocol) ---------------------------------------------------------

    def data(self, envelope: Envelope, payload: Payload) -> None:
        """Accept the rows of one event: some are held out by their content, the rest wait for their batch."""
        rows = self.senders.marked(prepared(self.engine, envelope, payload), envelope.source)
        if not payload.labels:
            self.counters.unlabelled_rows += len(rows)
        self.counters.accepted_events += 1
        rows, held = self.engine.judge.split(rows, self.entry_id)
        self.counters.held_out_rows += held
        self.batcher.enter(rows)

    def add_task(self, spec: Json) -> None:
        """Declare a task; declaring the same one again changes nothing, another one of that name is refused."""
        task = TaskSpec.from_dict(spec)
        known = self.engine.tasks.get(task.name)
        if known is not None:
            if known == task:
                return
            raise BadEvent(
                "task_exists",
                f"task {task.name!r} exists with other settings; retire it or use task.update",
            )
        self.engine.add_task(task)
        self._journal(
            "task_added", {"task": task.name, "modality": task.modality, "kind": task.kind}
        )

    def switch_task(self, task: str, phase: str | None) -> None:
        """End the phase: train what is pending, freeze the teacher, score every hold-out, move the focus."""
        self._known(task)
        self.flush()
        scored = self.judgement.ended(self.entry_id, task)
        self.engine.switch_task(task, phase, scored)
        self.phases.begin(task)
        self.judgement.switched(scored, self.entry_id)
        here = {"task": task, "phase": phase, "step": self.engine.step_count}
        self.last_switch = {**here, "scores": scored.primary}
        self._journal("task_switched", self.last_switch)
        self._tell_guard()

    def update_task(self, task: str, changes: Json) -> None:
        """Change the settings of a task that may change while it lives."""
        self._known(task)
        self.engine.update_task(task, **changes)
        self._journal("task_updated", {"task": task, **changes})

    def retire_task(self, task: str) -> None:
        """Forget a task: its head, its stored rows and its hold-outs; pending rows are trained first."""
        self._known(task)
        self.flush()
        self.engine.remove_task(task)
        self.phases.forget(task)
        self.judgement.forget(task)
        self._journal("task_retired", {"task": task})

    def control(self, kind: str, detail: Json) -> None:
        """Carry out a decision that the daemon wrote into its own log."""
        if kind == "flush":
            self.flush()
        elif kind == "evaluate":
            self.judgement.evaluate(self.entry_id, detail)
            self._tell_guard()
        elif kind == "phase":
            self._begin_phase(str(detail.get("task")), str(detail.get("phase")))
        elif kind == "accept":
            self._accept(str(detail.get("task")), str(detail.get("at")), str(detail.get("proof")))
        else:
            allowed = "allowed are 'flush', 'evaluate', 'phase' and 'accept'"
            told = f"control kind {kind!r} is not known, {allowed} (detail: {detail})"
            raise BadEvent("unknown_control", told)

    def flush(self) -> None:
        """Train all pending rows, the last batch as short as it is."""
        while (batch := self.batcher.rest()) is not None:
            self._step(batch)

    # -- inside ----------------------------------------------------------------------------------------------

    def _apply(self, entry: Entry) -> None:
        accepted = self.counters.accepted_events
        try:
            parse(entry, self._limits).apply(self)
            if self.counters.accepted_events == accepted:
                self.counters.control_events += 1
        except BadRows as error:
            self._bury(entry, error.reason, str(error))
        except EngineError as error:
            self._bury(entry, "refused_by_engine", str(error))
        except BadEvent as error:
            self._bury(entry, error.reason, str(error))

    def _step(self, batch: list[Rows]) -> None:
        self.last_losses = self.engine.step(batch).losses
        self.counters.trained_rows += sum(len(rows) for rows in batch)
        self.phases.stepped(self.entry_id)

    def _begin_phase(self, task: str, phase: str) -> None:
        """A detected drift comes back through the log: another phase of the same task."""
        found = self.phases.marked(task, phase)
        if found is not None:
            self._journal("drift_detected", {"task": task, "phase": phase, **found})
            self.switch_task(task, phase)

    def _accept(self, task: str, at: str, proof: str) -> None:
        self._known(task)
        self.judgement.accept(task, at, proof, self.entry_id)
        self._journal("level_accepted", {"task": task})

    def _tell_guard(self) -> None:
        for kind, detail in self.judgement.news():
            self._journal(kind, detail)

    def _known(self, task: str) -> None:
        if task not in self.engine.tasks:
            known = f"known: {', '.join(sorted(self.engine.tasks)) or 'none yet'}; add it with mtl.task.add.v1"
            raise BadEvent("unknown_task", f"task {task!r} is not known; {known}")

    def _count_duplicate(self, entry: Entry) -> None:
        if self.rereading:
            self.counters.reread_events += 1
            return
        if entry.fields.get(b"source") == OWN_SOURCE:  # a decision whose first reply was lost
            self.counters.control_events += 1
            return
        self.counters.duplicate_events += 1
        self.counters.duplicate_rows += declared_rows(entry)

    def _bury(self, entry: Entry, reason: str, message: str) -> None:
        self.counters.dead_events += 1
        letter = dead_letter(entry, reason, message)
        self.counters.dead_rows += letter["rows"]
        self.outbox.add("dead", letter)

    def _journal(self, kind: str, detail: Json) -> None:
        self.outbox.add("journal", {"kind": kind, "detail": detail})

    # -- state -----------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], Json]:
        """Everything but the engine and the ring: arrays, and JSON that is a function of the log."""
        arrays, pending = self.batcher.state()
        watched, phases = self.phases.state()
        judged, judgement = self.judgement.state()
        return arrays | watched | judged, {
            "pending": pending,
            "counters": asdict(self.counters),
            "ring_added": self.ring.added,
            "last_switch": self.last_switch,
            **judgement,
            "phases": phases,
            "senders": self.senders.state(),
        }

    def load_state(self, arrays: dict[str, np.ndarray], meta: Json) -> None:
        self.batcher.load_state(arrays, meta["pending"])
        self.counters = Counters(**meta["counters"])
        self.last_switch = meta["last_switch"]
        self.judgement.load_state(arrays, meta)
        self.phases.load_state(arrays, meta["phases"])
        self.senders.load_state(meta.get("senders", ()))
