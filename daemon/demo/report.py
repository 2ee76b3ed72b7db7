"""What the demo prints: a progress line while it runs, and at the end tables that fit 80 columns."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from daemon.demo.data import Phase

WIDTH = 80
_QUIET_S = 5.0  # where lines cannot be rewritten (a log file), progress is told this often


class Progress:
    """A line that is rewritten on a terminal, and an ordinary line now and then elsewhere."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._live = out.isatty()
        self._told = monotonic()
        self._dirty = False

    def show(self, text: str) -> None:
        """How things are at this moment; may be left out."""
        if self._live:
            self._out.write(f"\r\x1b[K{text[: WIDTH - 1]}")
            self._dirty = True
        elif monotonic() - self._told >= _QUIET_S:
            self._told = monotonic()
            self._out.write(f"  … {text}\n")
        self._out.flush()

    def say(self, text: str = "") -> None:
        """A line that stays."""
        if self._dirty:
            self._out.write("\r\x1b[K")
            self._dirty = False
        self._told = monotonic()
        self._out.write(f"{text}\n")
        self._out.flush()


def stdout() -> Progress:
    """Progress on the standard output."""
    return Progress(sys.stdout)


@dataclass(slots=True)
class Matrix:
    """Accuracy (per cent) of every phase's test rows after every phase of the stream."""

    phases: Sequence[Phase]
    rows: list[list[float]] = field(default_factory=list[list[float]])  # row t has scores 0..t

    def average_accuracy(self) -> float:
        """Mean over all phases, at the end of the stream."""
        return sum(self.rows[-1]) / len(self.rows[-1])

    def newest_accuracy(self) -> float:
        """Of the last phase of the stream, at its end."""
        return self.rows[-1][-1]

    def forgetting(self) -> float:
        """Mean over the earlier phases of (best score so far - score at the end)."""
        last = len(self.rows) - 1
        drops = [max(row[k] for row in self.rows[k:last]) - self.rows[last][k] for k in range(last)]
        return sum(drops) / len(drops) if drops else 0.0

    def lines(self) -> list[str]:
        """The matrix as text, one line for each phase of the stream, one column for each set of test rows."""
        label = max(len(title(phase)) for phase in self.phases) + 3
        tasks = "".join(f"{phase.task[:7]:>8}" for phase in self.phases)
        names = "".join(f"{phase.name:>8}" for phase in self.phases)
        lines = [f"{'after phase':<{label}}{tasks}", f"{'':<{label}}{names}"]
        for number, (phase, row) in enumerate(zip(self.phases, self.rows, strict=False), 1):
            cells = "".join(f"{score:8.1f}" for score in row)
            lines.append(f"{f'{number} {title(phase)}':<{label}}{cells}")
        return lines


def title(phase: Phase) -> str:
    """How a phase is called in the tables."""
    return f"{phase.task} {phase.name}"


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of every row that was sent."""

    sent: int
    trained: int
    held_out: int
    duplicate: int
    dead: int

    @property
    def accounted(self) -> int:
        return self.trained + self.held_out + self.duplicate + self.dead

    @property
    def lost(self) -> int:
        return self.sent - self.accounted

    def lines(self) -> list[str]:
        told = (
            ("trained", self.trained, "learned, each exactly once"),
            ("held out", self.held_out, "kept by the daemon to score itself, never learned"),
            ("duplicate", self.duplicate, "sent twice on purpose, learned once"),
            ("dead", self.dead, "malformed on purpose, kept as dead letters"),
            ("lost", self.lost, "none of these"),
        )
        lines = [f"  {name:<12}{rows:>8,}   {meaning}" for name, rows, meaning in told]
        return [*lines, f"  {'sent':<12}{self.sent:>8,}   the sum of the above"]


def comparison(ours: Matrix, plain: Matrix, strategy: str) -> list[str]:
    """Average accuracy and forgetting of both runs, side by side."""
    heading = f"  {'':<20}{f'mtld ({strategy})':>20}{'plain fine-tuning':>20}"
    rows = (
        ("average accuracy %", ours.average_accuracy(), plain.average_accuracy()),
        ("newest phase, %", ours.newest_accuracy(), plain.newest_accuracy()),
        ("forgetting, points", ours.forgetting(), plain.forgetting()),
    )
    return [heading, *(f"  {name:<20}{a:>20.1f}{b:>20.1f}" for name, a, b in rows)]
