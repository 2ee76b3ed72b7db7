"""Everything that judges the model: the split of stream rows, hold-outs, scores, the accuracy matrix, frozen rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mtl_engine import evaluate, frozen, snapshot
from mtl_engine.evaluate import Scored
from mtl_engine.frozen import FrozenTask
from mtl_engine.heldout import KINDS, HeldOut
from mtl_engine.matrix import Matrix
from mtl_engine.paired import Paired
from mtl_engine.splitting import Splitter
from mtl_engine.trainer import Trainer
from mtl_engine.types import Json, Rows


class Judge:
    """Reads *judge* rows only. What may be chosen by select rows (`probabilities`) asks `answered` for these.

    `salt` decides which contents are held out and of which kind; a state that is loaded brings its own.
    """

    def __init__(self, trainer: Trainer, seed: int, salt: str) -> None:
        self._trainer = trainer
        self.splitter = Splitter(trainer.registry, salt)
        self.held_out = HeldOut(trainer.registry, self.splitter, seed)
        self.answered = evaluate.Answered(self.held_out, trainer)
        self.matrix = Matrix()

    # -- rows ------------------------------------------------------------------------------------------------

    def split(self, rows: Rows, place: str) -> tuple[Rows, int]:
        """Keep what is to be held out of prepared rows, which came at `place` in the log; returns the rest, and how many were kept back."""
        held_B, hash_B = self.splitter.split(rows, place)
        if not held_B.any():
            return rows, 0
        mine = np.flatnonzero(held_B)
        self.held_out.keep(rows.take(mine), hash_B[mine], self._trainer.step_count)
        return rows.take(np.flatnonzero(~held_B)), len(mine)

    def keep(self, rows: Rows, kind: str | None = None) -> None:
        """Hold out all of these rows, as one of the kinds or (None) as their contents decide."""
        table = self._trainer.registry.tables[rows.table]
        hash_B = self.splitter.contents.of_rows(rows, table)
        if kind is not None:
            hash_B = (hash_B & ~np.int64(1)) | np.int64(KINDS.index(kind))
        self.held_out.keep(rows, hash_B, self._trainer.step_count)

    # -- scores ----------------------------------------------------------------------------------------------

    def score(self, tasks: Sequence[str] | None = None) -> Scored:
        """Scores of some tasks (default: all) on the judge rows now."""
        return evaluate.score(self.answered, tasks)

    def row(self, scored: Scored) -> Json:
        """A row of the accuracy matrix, named after the phase that is ending."""
        task, phase = self._trainer.focus or (None, None)
        return {
            "task": task,
            "phase": phase,
            "step": self._trainer.step_count,
            "scores": scored.primary,
            "parts": scored.part_scores(),
        }

    # -- frozen rows -----------------------------------------------------------------------------------------

    def freeze(self) -> dict[str, FrozenTask]:
        """The judge rows of now with the errors of the weights that would be published now."""
        return frozen.freeze(self.answered)

    def freeze_snapshot(self, path: str | Path) -> dict[str, FrozenTask]:
        """The same for a snapshot on the disk that nothing was frozen with."""
        rival = snapshot.load(path)
        step = int(rival.manifest["step"])
        return frozen.freeze_rival(
            self.held_out, self._trainer.registry, rival.model, rival.registry, step
        )

    def meet(self, rows_of: Mapping[str, FrozenTask]) -> dict[str, Paired]:
        """The present model against the one that rows were frozen with, for every task that both can answer."""
        met = {name: frozen.meet(rows, name, self.answered) for name, rows in rows_of.items()}
        return {name: paired for name, paired in met.items() if paired is not None}

    def counts(self) -> dict[str, int]:
        """Judge rows by task, of those that can be scored."""
        columns = self._trainer.model.columns
        return {name: self.held_out.count(name) for name in self.held_out.tasks if columns(name)}

    def remove_task(self, name: str) -> None:
        self.held_out.remove_task(name)


def chunks(counts: Mapping[str, int], rows: int) -> list[list[str]]:
    """Tasks in order, together as long as they have at most so many rows; one with more is alone."""
    found: list[list[str]] = []
    left = 0
    for name, count in counts.items():
        if not found or count > left:
            found.append([])
            left = rows
        found[-1].append(name)
        left -= count
    return found
