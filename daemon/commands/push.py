"""`mtld push`: rows of a file into the log, in file order, no faster than the daemon can bear."""

from __future__ import annotations

import re
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon import vitals
from daemon.commands.progress import Progress
from daemon.commands.rows import read
from daemon.commands.rows.part import Pictures
from daemon.commands.shared import Call, DryRun, task_names, verb
from daemon.commands.words import note, several, size
from daemon.condition import is_running
from daemon.errors import ConfigError, DaemonError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.commands.rows.part import Part
    from daemon.producer import Producer

FLUSH_EVENTS = (
    1000  # receipts looked at together; with --durable what one fsync of the server covers
)


@dataclass(frozen=True, slots=True)
class Sending:
    """How the rows are read and sent."""

    label: Annotated[
        str | None,
        typer.Option(
            "--label", help="csv, parquet: the column with the labels. idx: the file with them."
        ),
    ] = None
    picture_size: Annotated[
        str | None,
        typer.Option("--size", help="Scale the pictures of a folder, WIDTHxHEIGHT."),
    ] = None
    grey: Annotated[
        bool, typer.Option("--grey", help="Take the colours out of the pictures of a folder.")
    ] = False
    rows_per_event: Annotated[
        int, typer.Option("--rows-per-event", min=1, max=65_536, help="Rows in one event.")
    ] = 64
    rate: Annotated[
        float | None,
        typer.Option("--rate", min=0.001, help="Rows a second at most (default: no bound)."),
    ] = None
    durable: Annotated[
        bool,
        typer.Option(
            "--durable",
            help="Wait for the server's disk after every 1,000 events and at the end; needs Valkey or Redis 7.2.",
        ),
    ] = False
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            help="Seconds to wait for a server that is down or a daemon that is behind.",
        ),
    ] = 60.0
    dry_run: DryRun = False

    def pictures(self) -> Pictures | None:
        """What is to be done to pictures, None where nothing was said of them."""
        if self.picture_size is None and not self.grey:
            return None
        found = re.fullmatch(r"(\d{1,4})x(\d{1,4})", self.picture_size or "1x1")
        if found is None or "0" in found.groups():
            raise ConfigError(f"--size is {self.picture_size!r}; write WIDTHxHEIGHT, such as 28x28")
        wanted = (int(found[1]), int(found[2])) if self.picture_size else None
        return Pictures(wanted, self.grey)


@dataclass(slots=True)
class Sent:
    """What has gone into the log so far."""

    file: str
    task: str | None
    source: str | None = None  # of the events; with their ids it names them
    rows: int = 0
    events: int = 0
    bytes: int | None = None  # of the payloads, counted by a dry run
    first: str = ""  # entry id
    last: str = ""
    durable: int = 0  # events known to be on the server's disk
    seconds: float = 0.0

    def line(self) -> str:
        if self.bytes is not None:
            return f"would send {self.count()}, {size(self.bytes)}"
        safe = ", all on the server's disk" if self.events and self.durable == self.events else ""
        where = f", entries {self.first} to {self.last}" if self.events else ""
        return f"{self.count()}{where}{safe}"

    def count(self) -> str:
        return f"{several(self.rows, 'row')} in {several(self.events, 'event')}"


@verb(log=True, options=Sending)
def push(
    call: Call,
    sending: Sending,
    file: Annotated[
        Path,
        typer.Argument(
            help="A .jsonl, .csv or .idx file, gzipped or not, a .npz, .safetensors or .parquet file,"
            " or a folder with a folder of PNG or JPEG for each class."
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(
            "--task",
            "-t",
            autocompletion=task_names,
            help="The task; leave it out where y is given by task.",
        ),
    ] = None,
) -> None:
    """Send the rows of a file. A .jsonl line is {"x": ..., "y": ...} or {"text": ..., "label": ...}.

    Waits while the daemon is too far behind. The ids are new each time: pushing a file twice trains on it twice.
    Pictures of a folder are sent class after class.
    """
    sent = Sent(str(file), task)
    parts = read(file, sending.rows_per_event, sending.label, sending.pictures())
    begin = time.monotonic()
    if sending.dry_run:
        _weigh(parts, sent)
    else:
        _send(call, sending, parts, sent)
    sent.seconds = round(time.monotonic() - begin, 3)
    call.show(asdict(sent), lambda: [sent.line()])


def _send(call: Call, sending: Sending, parts: Iterator[Part], sent: Sent) -> None:
    from daemon.producer import Producer  # with redis and numpy, which other verbs do without

    url, namespace = call.log()
    _warn(call, sent.task)
    producer = Producer(
        url, namespace, "mtld-push", timeout_s=sending.timeout_s, password_file=call.secret(),
        durable=sending.durable,
    )  # fmt: skip
    sent.source = producer.source
    with producer, Progress(sending.rate) as progress:
        try:
            for part in parts:
                _push(producer, part, sent)
                progress.to(sent.rows, part.done)
            _settle(producer, sent)
        except (DaemonError, ValueError, TypeError, KeyboardInterrupt) as error:
            progress.clear()
            if sent.events:
                note(f"stopped after {sent.count()}; those are in the log")
            if isinstance(error, KeyboardInterrupt):
                raise
            raise _named(error, sent.file) from None


def _warn(call: Call, task: str | None) -> None:
    """Say beforehand what would otherwise be seen a minute later, or only among the dead letters."""
    seen = vitals.read(call.state_dir / vitals.NAME)
    if seen is None or call.redis_url:
        return
    if not is_running(seen):
        note("no daemon runs: `mtld run` starts it, and its server if that is embedded")
    elif task is not None and task not in {one.get("name") for one in seen.tasks}:
        note(
            f"the daemon does not know a task {task!r} yet: what comes before `mtld task add {task}` is refused"
        )


def _push(producer: Producer, part: Part, sent: Sent) -> None:
    receipt = producer.push(sent.task, part.x, part.y, mask=part.mask, weight=part.weight)
    sent.rows, sent.events = sent.rows + len(part), sent.events + 1
    sent.first, sent.last = sent.first or receipt.entry_id, receipt.entry_id
    if sent.events % FLUSH_EVENTS == 0:
        _settle(producer, sent)


def _settle(producer: Producer, sent: Sent) -> None:
    """Look at the receipts; a durable producer waits for the server's disk first."""
    sent.durable += sum(receipt.is_durable for receipt in producer.flush())


def _weigh(parts: Iterator[Part], sent: Sent) -> None:
    """Read and encode everything, send nothing."""
    from daemon.producer import encoded

    sent.bytes = 0
    try:
        for part in parts:
            _, data, num_rows = encoded(sent.task, part.x, part.y, part.mask, part.weight)
            sent.rows, sent.events = sent.rows + num_rows, sent.events + 1
            sent.bytes += len(data)
    except (DaemonError, ValueError, TypeError) as error:
        note(f"the first {sent.rows:,} rows are good")
        raise _named(error, sent.file) from None


def _named(error: Exception, file: str) -> DaemonError:
    """What the producer says of rows is said of the file they come from."""
    return error if isinstance(error, DaemonError) else DaemonError(f"{file}: {error}")
