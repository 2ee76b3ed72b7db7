"""`mtld push`: rows of a file into the log, in file order, no faster than the daemon can bear."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.commands.rows import read
from daemon.commands.shared import Call, note, verb
from daemon.errors import DaemonError

if TYPE_CHECKING:
    from daemon.commands.rows import Part
    from daemon.producer import Producer

PROGRESS_S = 0.5
FLUSH_EVENTS = 10_000  # receipts looked at together; the producer keeps a bounded number of them


@dataclass(slots=True)
class Sent:
    """What has gone into the log so far."""

    file: str
    task: str | None
    source: str  # of the events; with their ids it names them
    rows: int = 0
    events: int = 0
    first: str = ""  # entry id
    last: str = ""
    durable: int = 0  # events known to be on the server's disk
    seconds: float = 0.0

    def line(self) -> str:
        safe = ", all on the server's disk" if self.events and self.durable == self.events else ""
        return f"{self.rows:,} rows in {self.events:,} events, entries {self.first} to {self.last}{safe}"


@verb(log=True)
def push(
    call: Call,
    file: Annotated[Path, typer.Argument(help="A .jsonl, .csv, .npz or .safetensors file.")],
    task: Annotated[
        str | None,
        typer.Option("--task", "-t", help="The task; leave it out where y is given by task."),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--label", help="Label column of a csv (default: unlabelled rows)."),
    ] = None,
    rows_per_event: Annotated[
        int, typer.Option("--rows-per-event", min=1, max=65_536, help="Rows in one event.")
    ] = 64,
    durable: Annotated[
        bool,
        typer.Option(
            "--durable", help="Have the server write them to its disk before this returns."
        ),
    ] = False,
    timeout_s: Annotated[
        float,
        typer.Option(
            "--timeout",
            min=0.1,
            help="Seconds to wait for a server that is down or a daemon that is behind.",
        ),
    ] = 60.0,
) -> None:
    """Send the rows of a file. A .jsonl line is {"x": ..., "y": ...} or {"text": ..., "label": ...}.

    Waits while the daemon is too far behind. The ids are new each time: pushing a file twice trains on it twice.
    """
    from daemon.producer import Producer  # with redis and numpy, which other verbs do without

    url, namespace = call.log()
    begin = time.monotonic()
    with Producer(
        url, namespace, "mtld-push", timeout_s=timeout_s, password_file=call.secret()
    ) as producer:
        sent = Sent(str(file), task, producer.source)
        try:
            for part in read(file, rows_per_event, label):
                _send(producer, part, sent)
                if sent.events % FLUSH_EVENTS == 0:
                    _settle(producer, sent, durable)
                _progress(sent, begin)
        except (DaemonError, ValueError, TypeError) as error:
            note(
                f"stopped after {sent.rows:,} rows in {sent.events:,} events; those are in the log"
            )
            raise (
                error if isinstance(error, DaemonError) else DaemonError(f"{file}: {error}")
            ) from None
        _settle(producer, sent, durable)
    sent.seconds = round(time.monotonic() - begin, 3)
    call.show(asdict(sent), lambda: [sent.line()])


def _send(producer: Producer, part: Part, sent: Sent) -> None:
    receipt = producer.push(sent.task, part.x, part.y, mask=part.mask, weight=part.weight)
    sent.rows, sent.events = sent.rows + len(part), sent.events + 1
    sent.first, sent.last = sent.first or receipt.entry_id, receipt.entry_id


def _settle(producer: Producer, sent: Sent, durable: bool) -> None:
    sent.durable += sum(receipt.is_durable for receipt in producer.flush(durable=durable))


def _progress(sent: Sent, begin: float) -> None:
    """A line that replaces itself, on a terminal only, twice a second."""
    passed = time.monotonic() - begin
    if sys.stderr.isatty() and passed // PROGRESS_S > sent.seconds // PROGRESS_S:
        sent.seconds = passed
        sys.stderr.write(f"\r{sent.rows:,} rows, {sent.rows / passed:,.0f} rows/s \r")
