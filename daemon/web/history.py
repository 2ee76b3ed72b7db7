"""How the trainer has been: a point every 5 s, every task switch and mark, in a file of bounded size that survives restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon import finite, standing
from daemon.samples import MAX_TASKS
from daemon.vitals import unix_s
from daemon.web import marks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from daemon.types import Json, Vitals

NAME = "history.jsonl"
EVERY_S = 5.0  # between two points
MAX_POINTS = 2000  # beyond them the older half is thinned to every second point, again and again
MAX_SWITCHES = 500  # the newest
MAX_MARKS = 500  # the newest
MAX_BYTES = 64 << 20  # a larger file is not ours: 2000 points of 50 tasks are 20 MB


class History:
    """Points, switches and marks, oldest first; `say` is told once when they can no longer be kept in the file."""

    def __init__(self, path: Path, say: Callable[[str], object]) -> None:
        self._path = path
        self._say = say
        self.points: list[Json] = []
        self.switches: list[Json] = []
        self.marks: list[Json] = []
        self._is_whole = self._load()  # whether the file holds everything and nothing else
        self._is_broken = False

    def look(self, vitals: Vitals) -> Json | None:
        """Take note of new vitals; returns the point that was added, if it was time for one."""
        for line in vitals.events:
            if line.get("kind") == "task_switched":
                self._switched(line)
        for mark in marks.new(vitals, self.marks):
            self.marks = [*self.marks, mark][-MAX_MARKS:]
            self._keep({"mark": mark})
        at = unix_s(vitals.written_at)
        if at is None or (self.points and 0 <= at - self.points[-1]["t"] < EVERY_S - 0.5):
            return None
        if vitals.busy == "loading":
            return None  # says nothing yet
        point = _point(round(at, 3), vitals)
        self.points.append(point)
        if len(self.points) > MAX_POINTS:
            half = MAX_POINTS // 2
            self.points = self.points[:half:2] + self.points[half:]
            self._is_whole = False
        self._keep(point)
        return point

    def to_dict(self) -> Json:
        """All of it."""
        return {
            "points": list(self.points),
            "switches": list(self.switches),
            "marks": list(self.marks),
        }

    def _switched(self, line: Json) -> None:
        detail = cast("Json", line.get("detail") or {})
        told = {
            "task": detail.get("task"),
            "phase": detail.get("phase"),
            "step": detail.get("step"),
        }
        if any(told.items() <= known.items() for known in self.switches):
            return  # it is told for as long as it is among the newest lines, and again after a crash
        switch = {"t": unix_s(str(line.get("at"))), **told}
        self.switches = [*self.switches, switch][-MAX_SWITCHES:]
        self._keep({"switch": switch})

    # -- the file ----------------------------------------------------------------------------------------------

    def _load(self) -> bool:
        try:
            if self._path.stat().st_size > MAX_BYTES:
                return False
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        found = [_parsed(line) for line in text.splitlines()]
        for one in found:
            if one is not None and "switch" in one:
                self.switches.append(one["switch"])
            elif one is not None and "mark" in one:
                self.marks.append(one["mark"])
            elif one is not None:
                self.points.append(one)
        self.points.sort(key=lambda point: point["t"])
        self.points, self.switches = self.points[-MAX_POINTS:], self.switches[-MAX_SWITCHES:]
        self.marks = self.marks[-MAX_MARKS:]
        bound = MAX_POINTS + MAX_SWITCHES + MAX_MARKS
        return None not in found and text.endswith("\n") and len(found) < bound

    def _keep(self, line: Json) -> None:
        """Append one line, or write the file anew by rename where it does not hold what it should."""
        try:
            if self._is_whole:
                with self._path.open("a", encoding="utf-8") as file:
                    file.write(finite.dumps(line, separators=(",", ":")) + "\n")
                return
            told = [
                *({"switch": one} for one in self.switches),
                *({"mark": one} for one in self.marks),
            ]
            lines = [*told, *self.points]
            temporary = self._path.with_name(f".{self._path.name}.new")
            text = "".join(finite.dumps(one, separators=(",", ":")) + "\n" for one in lines)
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self._path)
            self._is_whole, self._is_broken = True, False
        except OSError as error:
            self._is_whole = False
            if not self._is_broken:
                self._say(
                    f"{self._path} cannot be written: {error}; the history lives in memory until it can"
                )
            self._is_broken = True


def _point(at: float, vitals: Vitals) -> Json:
    """What the page draws over time, of at most `MAX_TASKS` tasks."""
    names = [str(task.get("name")) for task in vitals.tasks[:MAX_TASKS]]
    rows = {str(task.get("name")): task.get("replay_rows", 0) for task in vitals.tasks[:MAX_TASKS]}
    known = standing.of(vitals)[:MAX_TASKS]
    return {
        "t": at,
        "step": vitals.step,
        "rows_per_s": vitals.rows_per_s,
        "lag_events": vitals.lag_events,
        "average_accuracy": vitals.evaluation.get("average"),
        "forgetting": vitals.evaluation.get("forgetting"),
        "loss": {name: vitals.losses[name] for name in names if name in vitals.losses},
        "score": {one.task: one.score for one in known if one.score is not None},
        "replay_rows": rows,
    }


def _parsed(line: str) -> Json | None:
    """One line, None where it is torn or not ours."""
    try:
        found: object = finite.loads(line)
    except ValueError:
        return None
    told = cast("Json", found) if isinstance(found, dict) else {}
    is_event = isinstance(told.get("switch"), dict) or isinstance(told.get("mark"), dict)
    is_ours = isinstance(told.get("t"), int | float) or is_event
    return told if is_ours else None
