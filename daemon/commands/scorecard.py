"""One task in words: its classes, which of them it takes for which others, and whether its probabilities can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.commands.scores import number
from daemon.commands.words import columns, hang, several

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

CLASSES = 16  # in a table; `-o json` has up to 64
MISTAKES = 5
LABEL = 32  # letters of a label, so that the numbers beside it are seen
INDENT = 12
HEADINGS = ("CLASS", "ROWS", "RECALL", "PRECISION", "STREAM ROWS")
BINS = ("SAID", "RIGHT", "ROWS")


def told(card: Json) -> Iterator[str]:
    """All of a scorecard that a screen has room for."""
    yield from _classes(cast("list[Json]", card.get("classes") or []))
    yield from _mistakes(card.get("confusion") or {})
    yield from _calibration(card.get("calibration") or {})


def worst(card: Json) -> str:
    """The class that is known worst: its recall comes first, so that a long name does not hide it."""
    found = cast("Json", card.get("worst") or {})
    return f"{number(found.get('recall'))} {_label(found.get('class'))}" if found else "-"


def line(name: str, text: str) -> list[str]:
    """A name and what is told of it, over as many lines as it needs."""
    return hang(f"{name:<{INDENT}}{text}", INDENT)


def mistakes(confusion: Json) -> list[tuple[int, str, str]]:
    """Rows, the class they are of, and the class that was answered: every mistake that is told, the most frequent first."""
    pairs = [
        (int(one["rows"]), str(one["class"]), str(one["answered"]))
        for one in cast("list[Json]", confusion.get("pairs") or [])
    ]
    labels = cast("list[object]", confusion.get("labels") or [])
    for label, counts in zip(labels, confusion.get("counts") or [], strict=True):
        for answered, rows in zip(labels, counts, strict=True):
            if rows and label != answered:
                pairs.append((rows, str(label), str(answered)))
    return sorted(pairs, key=lambda pair: -pair[0])


def _classes(classes: list[Json]) -> Iterator[str]:
    if not classes:
        return
    more = len(classes) - CLASSES
    if more > 0:
        classes = sorted(classes, key=_recall)[:CLASSES]
    rows = [
        (
            _label(one["class"]),
            one["rows"],
            number(one["recall"]),
            number(one["precision"]),
            one["stream_rows"],
        )
        for one in classes
    ]
    yield ""
    yield from columns(rows, HEADINGS)
    if more > 0:
        yield f"the {CLASSES} that are known worst; and {more} more: `-o json`"


def _recall(one: Json) -> float:
    """What classes are ordered by; those without rows come last."""
    return 2.0 if one["recall"] is None else one["recall"]


def _mistakes(confusion: Json) -> Iterator[str]:
    found = mistakes(confusion)
    if not found:
        return
    yield ""
    for place, (rows, label, answered) in enumerate(found[:MISTAKES]):
        words = f"{_label(label)} answered as {_label(answered)}: {several(rows, 'row')}"
        yield from line("" if place else "mistakes", words)
    if len(found) > MISTAKES:
        yield from line("", f"and {several(len(found) - MISTAKES, 'pair')} more with fewer rows")


def _calibration(found: Json) -> Iterator[str]:
    """How far probabilities are off, and what came true of what was said."""
    if not found:
        return
    interval = found.get("interval")
    between = f" ({number(interval[0])} to {number(interval[1])})" if interval else ""
    yield ""
    yield from line(
        "calibration",
        f"ECE {number(found.get('ece'))}{between}, temperature {number(found.get('temperature'))};"
        " probabilities as they were said, and how often that was right:",
    )
    bins = [
        (number(one["p"]), number(one["rate"]), one["rows"])
        for one in cast("list[Json]", found["bins"])
    ]
    yield from (f"{'':<{INDENT}}{row}" for row in columns(bins, BINS))


def _label(label: object) -> str:
    text = str(label)
    return text if len(text) <= LABEL else f"{text[: LABEL - 1]}…"
