"""What `mtld evaluate` is answered: how well every task is known now, class by class, source by source, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.evaluation import moment

if TYPE_CHECKING:
    from collections.abc import Iterable

    from daemon.machine import LogMachine
    from daemon.types import Json

CARDS = 24  # tasks that are told class by class: with the longest labels 4 MiB; the others in brief
MATRIX_ROWS = 32  # of the accuracy matrix, the newest
_BRIEF = ("worst", "collapsed")  # of a scorecard


def appraise(machine: LogMachine) -> Json:
    """Everything from one pass over the judge rows; it changes nothing.

    `flipped` has the rows, by part, that were right when the guard's base was taken and are wrong now, and the other way
    round; `logged` says of which step the scores are that status and page show.
    """
    scored = machine.engine.judge.score()
    found = machine.engine.report(scored)
    found["matrix"]["rows"] = found["matrix"]["rows"][-MATRIX_ROWS:]
    evaluation = machine.evaluation
    return {
        **found,
        "senders": machine.judgement.senders_report(),
        "flipped": machine.guard.flipped(scored),
        "logged": {"at": moment(evaluation.entry_id), "step": evaluation.step},
    }


def narrowed(found: Json, tasks: Iterable[object]) -> Json:
    """An answer of bounded size: whole scorecards of the first `CARDS` tasks, of those that are named if any is."""
    cards = cast("dict[str, Json]", found["scorecards"])
    whole = (list(map(str, tasks)) or list(cards))[:CARDS]
    told = {
        name: card if name in whole else {key: card[key] for key in _BRIEF}
        for name, card in cards.items()
    }
    return {**found, "scorecards": told}
