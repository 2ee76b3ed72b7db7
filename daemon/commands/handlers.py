"""What the daemon does with a command from its control socket: the loop calls `apply`, between two steps.

Kept apart from the verbs so that the training process imports no command-line library.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING

from daemon.errors import DaemonError
from daemon.types import Json, Request, Steerable

if TYPE_CHECKING:
    from collections.abc import Mapping

Handler = Callable[[Steerable, Request], Json | None]


def _taking(known: Mapping[str, type], act: Handler) -> Handler:
    """`act`, asked only for arguments it knows; `by` (who asks) may always be given."""

    def handle(loop: Steerable, request: Request) -> Json | None:
        return _objection(request, {**known, "by": str}) or act(loop, request)

    return handle


def _objection(request: Request, known: Mapping[str, type]) -> Json | None:
    for name, value in request.args.items():
        if name not in known:
            return _refusal(f"{request.name!r} takes {', '.join(known)}, not {name!r}")
        if not isinstance(value, known[name]):
            return _refusal(
                f"{request.name}.{name} is {value!r}; it must be {known[name].__name__}"
            )
    until = request.args.get("until")
    if until is not None and not _is_moment(until):
        return _refusal(
            f"{request.name}.until is {until!r}; it must be a time with its zone, 2030-01-31T08:00:00Z"
        )
    return None


def _is_moment(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _refusal(message: str) -> Json:
    return {"error": message, "exit_code": 2}


HANDLERS: dict[str, Handler] = {
    "pause": _taking({"reason": str, "until": str}, lambda loop, request: loop.pause(request)),
    "resume": _taking({}, lambda loop, request: loop.resume(request)),
    "drain": _taking({}, lambda loop, request: loop.drain(request)),
    "checkpoint": _taking({}, lambda loop, request: loop.checkpoint(request)),
    "publish": _taking({}, lambda loop, request: loop.publish(request)),
    "score": _taking({}, lambda loop, request: loop.score(request)),
    "rollback": _taking(
        {"seq": int, "skips": list, "skip_to_now": bool, "dry_run": bool, "reason": str},
        lambda loop, request: loop.roll_back(request),
    ),
    "promote": _taking(
        {"name": str, "demote": bool, "force": bool, "reason": str},
        lambda loop, request: loop.promote(request),
    ),
    "evaluate": _taking({}, lambda loop, request: loop.evaluate(request)),
    "tasks": _taking({}, lambda loop, request: loop.tasks(request)),
}


def apply(loop: Steerable, request: Request) -> None:
    """Carry out one request; what is wrong with it becomes its reply and never reaches the loop."""
    handler = HANDLERS.get(request.name)
    if handler is None:
        close = get_close_matches(request.name, HANDLERS, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(HANDLERS)}"
        request.reply(_refusal(f"unknown command {request.name!r}: {hint}"))
        return
    try:
        reply = handler(loop, request)
    except DaemonError as error:
        reply = {"error": str(error), "exit_code": error.exit_code}
    if reply is not None:
        request.reply(reply)
