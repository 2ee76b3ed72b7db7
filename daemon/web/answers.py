"""What the sidecar answers to each path: files of the page, JSON, probes and metrics; all of it read from files."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from daemon import condition, finite, releases, vitals
from daemon.samples import Seen
from daemon.web.scorecards import Scorecards
from daemon.web.scrape import exposition
from daemon.web.streaming import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from daemon.samples import Gpu
    from daemon.types import Vitals
    from daemon.web.history import History

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".woff2": "font/woff2",
    ".txt": "text/plain; charset=utf-8",
}
TEXT = TYPES[".txt"]
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"  # which every Prometheus reads


@dataclass(frozen=True, slots=True)
class Answer:
    """One response."""

    body: bytes
    content_type: str = TEXT
    status: int = 200


class Answers:
    """Every path but `/events`; each answer is made anew from what the files say now."""

    def __init__(
        self, state_dir: Path, history: History, gpus: Callable[[], Sequence[Gpu]]
    ) -> None:
        self._state_dir = state_dir
        self._history = history
        self._gpus = gpus
        self._scorecards = Scorecards(state_dir / "models")
        self._scrape = exposition(self._seen)
        self._files = {
            f"/static/{path.relative_to(STATIC).as_posix()}": path
            for path in STATIC.rglob("*")
            if path.is_file()
        }
        self._paths: dict[str, Callable[[], Answer]] = {
            "/metrics": lambda: Answer(self._scrape(), EXPOSITION),
            "/livez": lambda: _probe(condition.not_live(self._vitals())),
            "/readyz": lambda: _probe(condition.not_ready(self._vitals())),
            "/healthz": self._health,
            "/api/status": self._status,
            "/api/history": lambda: _json(self._history.to_dict()),
            "/api/releases": lambda: _json(
                [
                    releases.described(one, ("at", "step", "scores", "verdict"))
                    for one in self._catalogue()
                ]
            ),
        }

    def to(self, path: str, query: str = "") -> Answer | None:
        """The answer to a path, None where there is nothing; only a scorecard has a query."""
        if path == "/api/scorecard":
            return _json(*self._scorecards.of(parse_qs(query).get("task", [""])[0]))
        file = STATIC / "index.html" if path == "/" else self._files.get(path)
        if file is not None:
            return Answer(file.read_bytes(), TYPES.get(file.suffix, "application/octet-stream"))
        make = self._paths.get(path)
        return make() if make is not None else None

    def _vitals(self) -> Vitals | None:
        return vitals.read(self._state_dir / vitals.NAME)

    def _catalogue(self) -> list[releases.Release]:
        return releases.catalogue(self._state_dir / "models")

    def _status(self) -> Answer:
        told = report(self._state_dir)
        return _json(told, 503 if "error" in told else 200)

    def _health(self) -> Answer:
        found = self._vitals()
        live, ready = condition.not_live(found), condition.not_ready(found)
        told = report(self._state_dir)
        about = {
            key: told.get(key)
            for key in ("state", "reason", "busy", "problems", "advice", "written_s_ago")
        }
        body = {"live": not live, "not_live": live, "ready": not ready, "not_ready": ready, **about}
        return _json(body, 503 if live else 200)

    def _seen(self) -> Seen:
        models = self._state_dir / "models"
        aliases = {alias: releases.target(models, alias) for alias in releases.ALIASES}
        numbers = {alias: name.removeprefix("v") for alias, name in aliases.items() if name}
        try:
            free = shutil.disk_usage(self._state_dir).free
        except OSError:
            free = None  # no state directory yet
        return Seen(
            self._vitals(),
            free,
            {alias: int(number) for alias, number in numbers.items() if number.isdigit()},
            self._gpus(),
            self._scorecards.ece(),
        )


def _probe(objection: str) -> Answer:
    return Answer(f"{objection or 'ok'}\n".encode(), TEXT, 503 if objection else 200)


def _json(value: object, status: int = 200) -> Answer:
    body = finite.dumps(value, default=str, separators=(",", ":")).encode()
    return Answer(body, TYPES[".json"], status)
