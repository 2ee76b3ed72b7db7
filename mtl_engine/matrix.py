"""The accuracy matrix: scores at the end of every phase, and the numbers that the literature draws from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mtl_engine.tasks.base import finite
from mtl_engine.types import Json

MATRIX_ROWS = 256  # kept, the newest


class Matrix:
    """The accuracy matrix: a row of scores at the end of every phase, and the numbers the literature draws from it.

    They are taken over parts (a task's rows of one phase), each scored with its task's primary metric:
    average accuracy = mean over parts at the end; forgetting = mean over older parts of their best score
    before the end minus the last; BWT = mean of the last score minus the first (Lopez-Paz and Ranzato 2017,
    arXiv 1706.08840; Chaudhry et al. 2018, arXiv 1801.10112); min-ACC = the lowest score of a part in any row
    (De Lange et al. 2023, arXiv 2205.13452).
    """

    def __init__(self) -> None:
        self.rows: list[Json] = []

    def add(self, row: Json) -> None:
        self.rows = [*self.rows, row][-MATRIX_ROWS:]

    def load_state(self, rows: Iterable[Json]) -> None:
        """Take over saved rows; where an earlier version saved a score that is no number, there is none."""
        self.rows = [
            {**row, "scores": finite(row["scores"]), "parts": _defined(row["parts"])}
            for row in rows
        ]

    def report(self, last: Json | None = None) -> Json:
        """All rows and the numbers; `last` is a row for the present, not kept."""
        rows = self.rows if last is None else [*self.rows, last]
        if not rows:
            return {
                "rows": [], "average_accuracy": None, "forgetting": None, "bwt": None, "best": {}, "min_acc": {}
            }  # fmt: skip
        end: dict[str, float] = rows[-1]["parts"]
        earlier = {
            part: [row["parts"][part] for row in rows[:-1] if part in row["parts"]] for part in end
        }
        older = [part for part in end if earlier[part]]
        return {
            "rows": rows,
            "average_accuracy": _mean([end[part] for part in end]),
            "forgetting": _mean([max(earlier[part]) - end[part] for part in older]),
            "bwt": _mean([end[part] - earlier[part][0] for part in older]),
            "best": {part: max([*earlier[part], end[part]]) for part in end},
            "min_acc": {part: min([*earlier[part], end[part]]) for part in end},
        }


def _defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in finite(metrics).items() if value is not None}


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
