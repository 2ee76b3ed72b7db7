"""The story: eight phases of three tasks, one of them undeclared at the start, and SIGKILL in the middle.

Two daemons read the same rows, each from a stream of its own: one with the strategy on show, one with plain
fine-tuning. After each phase both publish a snapshot, and the demo scores these files, through the same
`load_snapshot` that users call, on rows that neither daemon was ever sent.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon.demo.data import Phase, phases
from daemon.demo.report import Accounting, Matrix, Progress, comparison, title
from daemon.demo.trainer import WAIT_S, Trainer, start_server, stop
from mtl_engine.strategies import RECOMMENDED
from mtld import Producer, load_snapshot

if TYPE_CHECKING:
    from daemon.types import Json, Vitals

ROWS_PER_EVENT = 16
KILL_IN = frozenset({3, 6})  # phases (from 0) in whose middle the daemon is killed
MISCHIEF_IN = 2  # the phase in which an event is sent twice and a malformed one is sent
DECLARED = ("digits", "intents")  # known when the stream begins; `tumours` joins on the way
TASKS: dict[str, Json] = {
    "digits": {"modality": "image"},
    "intents": {"modality": "text"},
    "tumours": {"modality": "table"},
}
ENGINE: Json = {"num_threads": 1, "seed": 0}  # two daemons side by side on two cores
SETTINGS: Json = {
    "stream": {"linger_s": 0.5, "batch_size": 16},
    "checkpoint": {"every_s": 1.0},
    "publish": {"every_s": 0, "on_switch": False, "keep": 20},  # the demo asks when it wants one
    "log": {"level": "info", "format": "json"},
}


@dataclass(slots=True)
class Side:
    """One daemon, its producer, and what was sent and scored."""

    trainer: Trainer
    producer: Producer
    matrix: Matrix
    sent: int = 0
    snapshot: Path | None = None

    def push(self, phase: Phase, rows: slice, **given: Any) -> None:
        """Send some rows of a phase as one event."""
        self.producer.push(phase.task, phase.x[rows], phase.y[rows], **given)
        self.sent += len(phase.y[rows])

    def settled(self, seen: Vitals) -> bool:
        """Whether every row that was sent is accounted for."""
        counted = self.trainer.accounting(self.sent)
        return counted.accounted + int(seen.counters.get("lost_events", 0)) >= self.sent


@dataclass(slots=True)
class Result:
    """Everything the demo has to show."""

    strategy: str
    ours: Matrix
    plain: Matrix
    accounting: Accounting
    kills: int
    snapshot: Path
    example: list[str]

    def summary(self, seconds: float) -> Json:
        """The last line of `--json`."""
        return {
            "average_accuracy": round(self.ours.average_accuracy(), 2),
            "finetune_average_accuracy": round(self.plain.average_accuracy(), 2),
            "newest_accuracy": round(self.ours.newest_accuracy(), 2),
            "forgetting": round(self.ours.forgetting(), 2),
            "rows_sent": self.accounting.sent,
            "rows_accounted": self.accounting.accounted,
            "rows_lost": self.accounting.lost,
            "kills": self.kills,
            "snapshot": str(self.snapshot),
            "seconds": round(seconds, 1),
        }

    def lines(self) -> list[str]:
        """The tables at the end."""
        return [
            "Accuracy (%) on test rows of each phase, after each phase of the stream",
            "",
            *self.ours.lines(),
            "",
            "The same stream under plain fine-tuning (no replay, everything else equal)",
            "",
            *self.plain.lines(),
            "",
            *comparison(self.ours, self.plain, self.strategy),
            "",
            f"What became of every row, {self.kills} SIGKILLs included",
            "",
            *self.accounting.lines(),
            "",
            *self.example,
        ]


class Scenario:
    """Runs the story once, in a directory of its own."""

    def __init__(self, home: Path, strategy: str, progress: Progress) -> None:
        self._home = home
        self._strategy = strategy
        self._progress = progress
        self._begin = monotonic()
        self._kills = 0

    def run(self) -> Result:
        """Start everything, tell the story, stop everything."""
        self._progress.show("reading the data …")
        stream = phases()
        with ExitStack() as running:
            server, url = start_server(self._home / "broker")
            running.callback(stop, server)
            self._say("server up, starting two daemons: one to show, one that only fine-tunes")
            sides = [
                self._side(running, url, stream, "mtld", self._strategy),
                self._side(running, url, stream, "finetune", "finetune"),
            ]
            for side in sides:
                side.trainer.start()
                running.callback(
                    side.trainer.drain
                )  # all of them at once, before any is waited for
            for side in sides:
                side.trainer.await_reading()
            for number, phase in enumerate(stream):
                self._tell(sides, stream, number, phase)
            return self._result(sides[0], sides[1])

    def _side(
        self, running: ExitStack, url: str, stream: list[Phase], name: str, strategy: str
    ) -> Side:
        # optimizer and averaging are the same on both sides: replay and strategy are what differs
        engine = {**RECOMMENDED.get(self._strategy, {}), "strategy": {"name": strategy}, **ENGINE}
        trainer = Trainer(self._home, url, name, {**SETTINGS, "engine": engine})
        running.callback(trainer.stop)
        producer = Producer(url, namespace=name, name="demo")
        for task in DECLARED:
            producer.add_task(name=task, **TASKS[task])
        return Side(trainer, producer, Matrix(stream))

    def _tell(self, sides: list[Side], stream: list[Phase], number: int, phase: Phase) -> None:
        """One phase: switch, send, perhaps kill, wait, publish, score."""
        half = len(phase) // (2 * ROWS_PER_EVENT) * ROWS_PER_EVENT
        for side in sides:
            kill = number in KILL_IN and side is sides[0]
            if phase.task not in DECLARED:
                side.producer.add_task(name=phase.task, **TASKS[phase.task])
            side.producer.switch(phase.task, phase.name)
            self._send(side, phase, range(0, half, ROWS_PER_EVENT))
            if kill:
                self._kill(side)
            self._send(side, phase, range(half, len(phase), ROWS_PER_EVENT))
            if number == MISCHIEF_IN:
                self._mischief(side, phase)
            if kill:
                self._revive(side)
        for side in sides:
            self._settle(side, phase)
            side.snapshot = side.trainer.publish()
            model = load_snapshot(side.snapshot)
            side.matrix.rows.append([_accuracy(model, past) for past in stream[: number + 1]])
        ours, plain = (side.matrix.rows[-1] for side in sides)
        self._say(
            f"phase {number + 1}/{len(stream)} {title(phase):<11} {len(phase):>5,} rows   "
            f"all phases so far: {np.mean(ours):5.1f} % (fine-tuning {np.mean(plain):5.1f} %)"
        )

    def _send(self, side: Side, phase: Phase, starts: range) -> None:
        for start in starts:
            side.push(phase, slice(start, start + ROWS_PER_EVENT))
        side.producer.flush()

    def _mischief(self, side: Side, phase: Phase) -> None:
        """What happens in real life: an event sent twice, and one that makes no sense."""
        for _ in range(2):
            side.push(phase, slice(0, ROWS_PER_EVENT), id="sent-twice")
        side.producer.push("digits", np.full((3, 28, 28), np.nan, np.float32), [0, 1, 0])
        side.sent += 3
        side.producer.flush()

    def _kill(self, side: Side) -> None:
        """SIGKILL while rows are on their way; the producer goes on sending."""
        seen = side.trainer.vitals()
        saved = seen.checkpoint.get("step", 0) if seen else 0
        side.trainer.kill()
        self._kills += 1
        self._say(f"SIGKILL in the middle of a phase; the last checkpoint it told of: step {saved}")

    def _revive(self, side: Side) -> None:
        side.trainer.start()
        seen = side.trainer.await_reading()
        self._say(
            f"started again, up after {seen.recovery_s} s, reads on where its checkpoint stands"
        )

    def _settle(self, side: Side, phase: Phase) -> None:
        def look(seen: Vitals) -> bool:
            done = side.trainer.accounting(side.sent).accounted
            self._progress.show(
                f"{side.trainer.namespace:<9}{title(phase):<12} step {seen.step:>6,} "
                f"{seen.rows_per_s:>8,.0f} rows/s  {done:>6,} of {side.sent:,} rows"
            )
            return side.settled(seen)

        side.trainer.wait(look, WAIT_S, "account for every row")

    def _result(self, ours: Side, plain: Side) -> Result:
        accounting = ours.trainer.accounting(ours.sent)
        assert ours.snapshot is not None, "no phase was told"  # noqa: S101
        latest = ours.snapshot.parent / "latest"
        return Result(
            self._strategy,
            ours.matrix,
            plain.matrix,
            accounting,
            self._kills,
            latest,
            example(latest),
        )

    def _say(self, text: str) -> None:
        self._progress.say(f"{monotonic() - self._begin:6.1f} s  {text}")


def example(snapshot: Path) -> list[str]:
    """How a user queries the published snapshot, with what this one really answers."""
    texts = ["turn off the lamp in the kitchen", "how many minutes are left on my timer"]
    answers = load_snapshot(snapshot).predict("intents", texts)
    here = Path.cwd()
    shown = snapshot.relative_to(here) if snapshot.is_relative_to(here) else snapshot
    return [
        "The published snapshot stays; load and query it from any program:",
        "",
        "  >>> from mtld import load_snapshot",
        f'  >>> model = load_snapshot("{shown}")',
        f'  >>> model.predict("intents", ["{texts[0]}",',
        f'  ...                           "{texts[1]}"])',
        f"  {[str(answer) for answer in answers]}",
    ]


def _accuracy(model: Any, phase: Phase) -> float:
    """Per cent of a phase's test rows that the model labels right, among all labels of the task it knows."""
    answers = model.predict(phase.task, phase.test_x)
    right = sum(answer == y for answer, y in zip(answers, phase.test_y, strict=True))
    return 100.0 * right / len(phase.test_y)
