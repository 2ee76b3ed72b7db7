"""What the daemon does with a command from its control socket: the loop calls `apply`, between two steps.

Kept apart from the verbs so that the training process imports no command-line library.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, cast

from daemon.errors import DaemonError
from daemon.identity import is_id
from daemon.types import Json, Request, Steerable

if TYPE_CHECKING:
    from collections.abc import Mapping

Handler = Callable[[Steerable, Request], Json | None]


def _taking(known: Mapping[str, type], act: Handler, needs: str = "") -> Handler:
    """`act`, asked only for arguments it knows and with the one it `needs`; `by` (who asks) may always be given."""

    def handle(loop: Steerable, request: Request) -> Json | None:
        if needs and needs not in request.args:
            return _refusal(f"{request.name!r} needs {needs!r}: {known[needs].__name__}")
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
    for skip in request.args.get("skips", ()):
        if not _is_range(skip):
            return _refusal(
                f'{request.name}.skips has {skip!r}; each is two ids of the log, ["5-0", "9-3"]'
            )
    until = request.args.get("until")
    if until is not None and not _is_moment(until):
        return _refusal(
            f"{request.name}.until is {until!r}; it must be a time with its zone, 2030-01-31T08:00:00Z"
        )
    return None


def _is_range(skip: object) -> bool:
    ids = cast("list[object]", skip) if isinstance(skip, list) else []
    return len(ids) == 2 and all(isinstance(one, str) and is_id(one) for one in ids)


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
    "accept": _taking({"task": str}, lambda loop, request: loop.accept(request), needs="task"),
    "rollback": _taking(
        {"seq": int, "skips": list, "skip_to_now": bool, "dry_run": bool, "reason": str},
        lambda loop, request: loop.roll_back(request),
        needs="seq",
    ),
    "promote": _taking(
        {"name": str, "force": bool, "reason": str},
        lambda loop, request: loop.promote(request),
        needs="name",
    ),
    "demote": _taking({"reason": str}, lambda loop, request: loop.demote(request)),
    "evaluate": _taking({"tasks": list}, lambda loop, request: loop.evaluate(request)),
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
