"""What the charts mark beside task switches: rollbacks, starts, outages, tasks that fell and recovered, promotions.

A mark is `t` (seconds since 1970), `kind` and `about`. Journal lines are told for as long as they are among the newest,
and once more after a crash; the outage and the start are read off the vitals themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from daemon.vitals import unix_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from daemon.types import Json, Vitals

OUTAGE, BACK = "outage", "back"
AWAY = "broker_down"  # the state of a daemon whose server does not answer
_GROUPS = {  # one of a group follows another of it
    "fell": "guard", "recovered": "guard", OUTAGE: "server", BACK: "server", "promoted": "champion", "demoted": "champion",
}  # fmt: skip


def new(vitals: Vitals, known: Sequence[Json]) -> list[Json]:
    """The marks that these vitals tell and that are not known yet, oldest first."""
    found: list[Json] = []
    for mark in sorted(_told(vitals, known), key=lambda one: one["t"]):
        if not _is_known(mark, [*known, *found]):
            found.append(mark)
    return found


def _told(vitals: Vitals, known: Sequence[Json]) -> Iterator[Json]:
    if (started := unix_s(vitals.started_at)) is not None:
        yield {"t": started, "kind": "started", "about": ""}
    for line in vitals.events:
        at, told = unix_s(str(line.get("at"))), _of_line(line)
        if at is not None and told is not None:
            yield {"t": at, "kind": told[0], "about": told[1]}
    server = next((one["kind"] for one in reversed(known) if one["kind"] in (OUTAGE, BACK)), BACK)
    now = OUTAGE if vitals.state == AWAY else BACK if vitals.broker_up else server
    if now != server and (at := unix_s(vitals.written_at)) is not None:
        yield {"t": at, "kind": now, "about": ""}


def _of_line(line: Json) -> tuple[str, str] | None:
    """Kind and text of the mark of a journal line; None where it makes none."""
    detail = cast("Json", line.get("detail") or {})
    match line.get("kind"):
        case "rolled_back":
            return "rollback", ""
        case "guard_fell":
            parts = cast("Json", detail.get("parts") or {})
            return "fell", ", ".join(dict.fromkeys(part.partition("/")[0] for part in parts))
        case "guard_recovered":
            return "recovered", ""
        case "snapshot_published" if detail.get("decision") == "promoted":
            return "promoted", _version(detail)
        case "promoted" | "demoted" as kind:
            return kind, _version(detail)
        case _:
            return None


def _version(detail: Json) -> str:
    """v7, of a number or of a directory's name."""
    name = str(detail.get("version") or detail.get("champion") or "").removeprefix("v").lstrip("0")
    return f"v{name}" if name else ""


def _is_known(mark: Json, known: Sequence[Json]) -> bool:
    """Whether it is there already, or is told again after a crash at another time."""
    kind, about = mark["kind"], mark["about"]
    if any((one["t"], one["kind"]) == (mark["t"], kind) for one in known):
        return True
    if kind not in _GROUPS:
        return False  # a start or a rollback is one of its own
    group = (one for one in reversed(known) if _GROUPS.get(one["kind"]) == _GROUPS[kind])
    newest = next(group, None)
    return newest is not None and (newest["kind"], newest["about"]) == (kind, about)
