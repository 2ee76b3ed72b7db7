"""What every verb has in common: the options that say which daemon and which output, and how a result is printed."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from daemon import client
from daemon import vitals as vitals_file
from daemon.commands.words import show
from daemon.errors import IntegrityError, NotRunning
from daemon.places import check_url, password_file, state_directory
from daemon.types import Json


class Output(StrEnum):
    """How a result is printed."""

    table = "table"
    json = "json"


State = Annotated[
    Path | None,
    typer.Option(
        "--state",
        envvar="MTLD_STATE",
        help="State directory of the daemon (default ~/.local/state/mtld).",
    ),
]
Format = Annotated[
    Output, typer.Option("--output", "-o", help="table for people, json for programs.")
]
RedisUrl = Annotated[
    str | None,
    typer.Option(
        "--redis-url",
        envvar="MTLD_REDIS_URL",
        help="Server of the log (default: the one the daemon uses).",
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace", envvar="MTLD_NAMESPACE", help="The stream is mtl:{NAMESPACE}:events."
    ),
]
PasswordFile = Annotated[
    Path | None,
    typer.Option(
        "--password-file", help="File with the server's password; there is no flag for it."
    ),
]

Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds to wait for the effect.", min=0.1)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]

_DAEMON = {"state": (State, None), "output": (Format, Output.table)}
_LOG = {
    "redis_url": (RedisUrl, None),
    "namespace": (Namespace, None),
    "password_file": (PasswordFile, None),
}


@dataclass(frozen=True, slots=True)
class Call:
    """The common options of one invocation."""

    state: Path | None = None
    output: Output = Output.table
    redis_url: str | None = None
    namespace: str | None = None
    password_file: Path | None = None

    @property
    def state_dir(self) -> Path:
        """The state directory, whether or not it exists."""
        return state_directory(self.state)

    def log(self) -> tuple[str, str]:
        """URL and namespace of the log: as given, else the running daemon's, else the embedded server's."""
        seen = vitals_file.read(self.state_dir / vitals_file.NAME)
        namespace = self.namespace or (seen.namespace if seen and seen.namespace else "default")
        url = self.redis_url or next(
            (word for word in (seen.broker if seen else "").split() if "://" in word), None
        )
        if url is None:
            url = self._embedded()
        if url is None:
            raise NotRunning(
                f"no server is known: {self.state_dir} has no daemon; start `mtld run`, or name a server with --redis-url"
            )
        return check_url(url), namespace

    def _embedded(self) -> str | None:
        from daemon.broker import (
            EmbeddedBroker,  # knows where its socket is; status does without it
        )

        broker = EmbeddedBroker(self.state_dir / "broker")
        return broker.url if broker.socket_path.exists() else None

    def secret(self) -> Path | None:
        """The file with the server's password, where one is known."""
        return password_file(self.password_file)

    def ask(
        self, name: str, args: Json, timeout_s: float, table: Callable[[Json], Sequence[str]]
    ) -> None:
        """Send one command to the running daemon and print its answer."""
        reply = client.call(self.state_dir, name, {**args, "by": asker()}, timeout_s)
        self.show(reply, lambda: table(reply))

    def show(self, result: Any, table: Callable[[], Sequence[str]]) -> None:
        """Print a result: JSON as it is, or the lines that `table` makes of it."""
        show(result, table, as_json=self.output is Output.json)


def task_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Completes the name of a task from what the daemon last wrote; no names where there is no daemon."""
    path = state_directory(ctx.params.get("state")) / vitals_file.NAME
    found = vitals_file.read(path)
    names = [str(task["name"]) for task in found.tasks] if found else []
    return [name for name in names if name.startswith(incomplete)]


def asker() -> str:
    """Who types; it goes into the journal."""
    return os.environ.get("USER") or f"uid {os.getuid()}"


def told(reply: Json) -> str:
    """Where the checkpoint that contains the effect stands, for the end of a sentence."""
    return f" at step {reply['step']:,}, checkpoint {reply['seq']:06d}" if "seq" in reply else ""


def verified(call: Call, found: dict[str, list[str]]) -> int:
    """Print what a verification found, by directory; returns the exit code."""
    bad = {name: problems for name, problems in found.items() if problems}
    result = [
        {"name": name, "ok": not problems, "problems": problems} for name, problems in found.items()
    ]
    lines = [
        f"{name}  {'ok' if not problems else '; '.join(problems)}"
        for name, problems in found.items()
    ]
    call.show(result, lambda: lines or ["nothing to verify"])
    return IntegrityError.exit_code if bad else 0


def verb(
    *, log: bool = False, options: type[Any] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a function `f(call, its own options)` the common options as well; `log` adds those that find the server.

    `options` is a dataclass whose fields are options too, for those that several verbs share: the function takes
    an instance of it after the call.
    """
    common = _DAEMON | (_LOG if log else {})
    family = dict(inspect.signature(options, eval_str=True).parameters) if options else {}

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        taken = 2 if options else 1
        own = list(inspect.signature(function, eval_str=True).parameters.values())[taken:]
        own += family.values()

        def command(**given: Any) -> None:
            call = Call(**{name: given.pop(name) for name in common})
            chosen = [options(**{name: given.pop(name) for name in family})] if options else []
            function(call, *chosen, **given)

        shared = [
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
            )
            for name, (annotation, default) in common.items()
        ]
        parameters = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own] + shared
        command.__signature__ = inspect.Signature(parameters)  # PEP 362
        command.__annotations__ = {one.name: one.annotation for one in parameters}
        command.__name__, command.__doc__ = function.__name__, function.__doc__
        return command

    return decorate
