"""How well tasks are known, in words for `mtld status` and `mtld top`: all together, task by task, source by source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import vitals as vitals_file
from daemon.commands.words import ago, several
from daemon.standing import sources, standings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.standing import Standing
    from daemon.types import Json

NAME = 16  # letters of a task's name that a table has room for
SOURCES = 3  # told of a task, of as many tasks; the page has all of them
PROBLEMS = 4  # told on a screen; `-o json` has all of them
_OVERALL = (("average", "average"), ("forgetting", "forgot"), ("min_acc", "min-ACC"), ("wc_acc", "WC-ACC"))  # fmt: skip


def overall(report: Json) -> str:
    """All tasks together, and how old that is."""
    found: Json = report["evaluation"]
    if not found:
        return "none yet: hold-outs are scored every few minutes and when a task switches"
    told = ", ".join(f"{word} {number(found.get(key))}" for key, word in _OVERALL)
    return f"{told}; {ago(vitals_file.age_s(str(found.get('at', ''))))} ago"


def known(report: Json) -> list[Standing]:
    """Every task's standing, the fallen and the collapsed first."""
    return sorted(standings(report), key=lambda one: (not one.fallen, not one.collapsed))


def mark(one: Standing) -> str:
    """What is wrong with a task, in one word."""
    return "FELL" if one.fallen else "COLLAPSED" if one.collapsed else ""


def score(one: Standing) -> str:
    """accuracy 0.970"""
    return f"{one.metric} {number(one.score)}".strip()


def spread(one: Standing) -> str:
    """Half the width of the interval in which the true score probably lies."""
    return f"{(one.interval[1] - one.interval[0]) / 2:.3f}" if one.interval else "-"


def worst(one: Standing) -> str:
    """The class that is known worst; its recall comes first, so that a long name does not hide it."""
    if not one.worst:
        return "-"
    return f"{number(one.worst.get('recall'))} {one.worst.get('class')}"


def by_source(report: Json) -> Iterator[str]:
    """A line a task that fell or has several sources: the score of the newest rows each sent, the lowest first."""
    told = [
        (one, found)
        for one in known(report)
        if (found := sources(report["senders"], one.task)) and (one.fallen or len(found) > 1)
    ]
    for one, found in told[:SOURCES]:
        words = [
            f"{name[:40]} {number(value)} of {several(rows, 'row')}{' looks wrong' if name in one.suspects else ''}"
            for name, value, rows in found[:SOURCES]
        ]
        more = len(found) - SOURCES
        yield f"{one.task}: {', '.join(words)}" + (f", and {more} more" if more > 0 else "")
    if len(told) > SOURCES:
        yield f"and those of {len(told) - SOURCES} more tasks: the page has them"


def some(found: list[str]) -> list[str]:
    """As many problems as a screen has room for."""
    more = len(found) - PROBLEMS
    rest = [f"and {more} more: `mtld status -o json`"] if more > 0 else []
    return [*found[:PROBLEMS], *rest]


def number(value: object) -> str:
    """0.970, and a dash where there is no number."""
    return f"{value:.3f}" if isinstance(value, int | float) else "-"
