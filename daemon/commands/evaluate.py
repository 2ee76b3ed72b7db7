"""`mtld evaluate`: how good the model is on what it never trained on, asked of the running daemon."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from daemon.commands.shared import Call, Timeout, verb
from daemon.commands.words import columns, fit
from daemon.errors import ConfigError
from daemon.strict import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json

HEADINGS = ("PART", "NOW", "BEST", "FORGOTTEN")


@verb()
def evaluate(
    call: Call,
    task: Annotated[
        list[str] | None, typer.Argument(help="Only these tasks (default: all).")
    ] = None,
    timeout_s: Timeout = 60.0,
) -> None:
    """Score every task's held-out rows now: between two steps, on the weights of that moment, changing nothing.

    Below the scores: the average accuracy, forgetting and backward transfer (BWT) of the accuracy matrix, and every
    part (a task's rows of one phase) with its best score at the last 32 switches.
    """
    call.ask("evaluate", {}, timeout_s, lambda reply: list(_told(reply, task or [])))


def _told(reply: Json, only: list[str]) -> Iterator[str]:
    scores, matrix = cast("Json", reply["scores"]), cast("Json", reply["matrix"])
    for name in only:
        if name not in scores:
            raise ConfigError(f"no held-out rows of {name!r}: {nearest(name, scores)}")
    summary = ", ".join(
        f"{told} {_number(matrix[key])}"
        for key, told in (("average_accuracy", "average accuracy"), ("forgetting", "forgetting"), ("bwt", "BWT"))
    )  # fmt: skip
    yield fit(f"step {reply['step']:,}: {summary}")
    if not scores:
        yield "no rows are held out yet"
        return
    yield ""
    chosen = {name: metrics for name, metrics in scores.items() if not only or name in only}
    yield from columns(
        [(name, "  ".join(f"{m} {_number(v)}" for m, v in found.items())) for name, found in chosen.items()],
        ("TASK", "SCORES"),
    )  # fmt: skip
    parts = [row for row in _parts(matrix["rows"]) if row[0].partition("/")[0] in chosen]
    if parts:
        yield ""
        yield from columns(parts, HEADINGS)


def _parts(rows: list[Json]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Each part's score now, its best in the rows before, and the fall from there."""
    if not rows:
        return
    for part, now in cast("Json", rows[-1]["parts"]).items():
        before = [row["parts"][part] for row in rows[:-1] if part in row["parts"]]
        best = max(before, default=None)
        fall = None if best is None else round(best - now, 3) + 0.0
        yield part, round(now, 3), None if best is None else round(best, 3), fall


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
