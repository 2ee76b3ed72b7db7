"""The words the daemon's parts share: log entries, events, positions, counters, and the protocols between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:  # numpy takes 0.1 s to import, and `mtld status` reads its vitals without it
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np

Json = dict[str, Any]
"""A JSON object."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log as the server returned it: its id (`ms-seq`) and its flat fields."""

    id: str
    fields: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the server says of the stream, from one XINFO STREAM and one XINFO GROUPS.

    `entries_added` counts every entry ever added to this incarnation of the stream; `group_*` are None
    where our display group does not exist. A stream that does not exist has `last_id` "0-0" and zeros.
    """

    last_id: str
    entries_added: int
    length: int
    first_id: str | None
    group_last_id: str | None
    group_entries_read: int | None


@dataclass(frozen=True, slots=True)
class Envelope:
    """The CloudEvents attributes of one entry, checked for presence and form but not for meaning.

    `hop` is the extension `mtlhop` (how often a dead letter was replayed, 0 to 3); `rows` is the
    extension `mtlrows`, the producer's own count, used only to account for events that cannot be parsed.
    """

    entry_id: str
    id: str
    source: str
    type: str
    subject: str | None
    time: str | None
    content_type: str
    data: bytes
    hop: int = 0
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels of one task for all rows of an event: `y` as sent, `mask` and `weight` or None for all ones."""

    y: np.ndarray | list[Any]
    mask: np.ndarray | list[Any] | None = None
    weight: np.ndarray | list[Any] | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """What a data event carries: inputs (`list[str]` for text) and labels by task; no labels = unlabelled."""

    x: np.ndarray | list[Any]
    labels: Mapping[str, Labels]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused before anything is parsed."""

    max_event_bytes: int = 16 * 1024 * 1024  # all fields of one entry
    max_rows: int = 65_536  # of one event
    max_depth: int = 16  # of nested JSON
    reference_root: str | None = None  # references are off until a root is set
    max_reference_bytes: int = 64 * 1024 * 1024  # the file itself, and what it unpacks to


class Machine(Protocol):
    """What an event may do to the state; every method either takes effect whole or raises and changes nothing."""

    def data(self, envelope: Envelope, payload: Payload) -> None: ...
    def add_task(self, spec: Json) -> None: ...
    def switch_task(self, task: str, phase: str | None) -> None: ...
    def update_task(self, task: str, changes: Json) -> None: ...
    def retire_task(self, task: str) -> None: ...
    def control(self, kind: str, detail: Json) -> None: ...


class Event(Protocol):
    """One parsed event; `parse` raises nothing but BadEvent."""

    def apply(self, machine: Machine) -> None: ...


class EventSource(Protocol):
    """The log and the few things the daemon writes beside it; Redis Streams or memory, same contract.

    Every write is fenced by the lease and raises LeaseLost when another writer holds it, BrokerFull when
    the server is out of memory, BrokerUnreachable when it does not answer (the write may have happened).
    """

    def read(self, start: str, count: int) -> list[Entry]:
        """Entries with id >= start, in order, at most `count`; `start` is inclusive (the anchor check needs it)."""
        ...

    def wait(self, after: str, timeout_s: float) -> bool:
        """Sleep until an entry with id > after exists, at most `timeout_s`; True when one does."""
        ...

    def bounds(self) -> Bounds: ...

    def append(self, fields: Mapping[str, str | bytes]) -> str:
        """Append one entry to the event log (the daemon's own decisions); returns its id."""
        ...

    def deliver(self, dead: Sequence[Json], journal: Sequence[Json], mark: str) -> None:
        """Append dead letters and journal lines and set the `sent` mark, all in one MULTI/EXEC."""
        ...

    def sent_mark(self) -> str | None:
        """The mark of the last `deliver` that the server executed, `<epoch>:<seq>`."""
        ...

    def display(self, last_id: str, entries_read: int, create: bool = True) -> bool:
        """Set the display group to this position, creating it (and the stream) where it is missing.

        With `create=False` a missing group is left missing and False returned: its absence is evidence that
        the stream was replaced, so `Reader.display` runs the regression check before it makes a new one.
        """
        ...

    def trim(self, min_id: str) -> int:
        """Remove entries with id < min_id; returns how many. Works on a server that is out of memory."""
        ...

    def acquire(self, own_token: int, takeover_wait_s: float) -> int:
        """Take the lease and return its fencing token, greater than `own_token` and than any the server knows."""
        ...

    def renew(self) -> None:
        """Extend the lease; LeaseLost when it is no longer ours."""
        ...

    def describe(self) -> str:
        """The server's name, version and address, for people."""
        ...

    def close(self) -> None:
        """Release the lease if it is ours and disconnect."""
        ...


@dataclass(slots=True)
class Counters:
    """The accounting; sent = trained + held_out + duplicate + dead + skipped + lost, in rows and in events.

    `lost_events` is exact unless `lost_is_lower_bound`. `pending` rows are those accepted and not yet trained.
    """

    accepted_events: int = 0
    duplicate_events: int = 0
    dead_events: int = 0
    lost_events: int = 0
    lost_is_lower_bound: bool = False
    reread_events: int = 0
    control_events: int = 0
    trained_rows: int = 0
    held_out_rows: int = 0
    duplicate_rows: int = 0
    dead_rows: int = 0
    unlabelled_rows: int = 0
    skipped_events: int = 0  # left out by a rollback, on an operator's or the guard's decision
    skipped_rows: int = 0


SCHEDULE = "schedule"  # who asks, where the clock does


@dataclass(slots=True)
class Request:
    """One command from the control socket; `reply` may be called later, exactly once, from the loop's thread."""

    name: str
    args: Json
    reply: Callable[[Json], None]


class Steerable(Protocol):
    """What a command may ask of the loop, at a barrier between two steps.

    A method returns the reply, or None when it will call `request.reply` itself once the effect is durable.
    """

    def pause(self, request: Request) -> Json | None: ...
    def resume(self, request: Request) -> Json | None: ...
    def drain(self, request: Request) -> Json | None: ...
    def checkpoint(self, request: Request) -> Json | None: ...
    def publish(self, request: Request) -> Json | None: ...
    def score(self, request: Request) -> Json | None: ...
    def accept(self, request: Request) -> Json | None: ...
    def roll_back(self, request: Request) -> Json | None: ...
    def promote(self, request: Request) -> Json | None: ...
    def demote(self, request: Request) -> Json | None: ...
    def evaluate(self, request: Request) -> Json | None: ...
    def tasks(self, request: Request) -> Json | None: ...


@dataclass(slots=True)
class Vitals:
    """How the trainer is, as of `written_at`; one small JSON file, written by rename, read by `status`.

    `state` is one of starting, recovering, training, idle, paused, draining, stopped, broker_down,
    broker_full, stream_exhausted, outbox_full, diverged. `faults` are named conditions with a count and the time of
    the last. What is counted in `totals`, `dead_reasons` and the two histograms begins at 0 with every process.
    """

    written_at: str = ""  # RFC 3339, UTC
    started_at: str = ""
    pid: int = 0
    pid_namespace: str = ""  # where that number means something
    boot: str = ""  # nonce of this process
    build: Json = field(default_factory=dict[str, Any])  # version, torch, device, ...
    state: str = "starting"
    reason: str = ""
    busy: str = (
        ""  # what keeps the loop from writing this file: loading, evaluation, publishing ...
    )
    busy_until: str = ""  # and when it hangs rather than works
    broker_up: bool = False
    paused: str | None = None  # the reason, while paused
    paused_until: str | None = None
    namespace: str = ""
    broker: str = ""  # "valkey 9.1.2 unix:///…", without a password
    epoch: int = 0
    token: int = 0
    step: int = 0
    rows_per_s: float = 0.0
    task: str | None = None
    phase: str | None = None
    tasks: list[Json] = field(
        default_factory=list[Json]
    )  # name, modality, kind, classes, rows, scores
    losses: Json = field(default_factory=dict[str, Any])  # of the last step with rows of the task
    scores: Json = field(default_factory=dict[str, Any])  # newest, on the hold-outs, by task
    # rows (newest 32), average_accuracy, forgetting, bwt; best and min_acc by part
    matrix: Json = field(default_factory=dict[str, Any])
    # The newest evaluation, which all that is shown of scores is read from; empty = none yet. at, step, rows,
    # every_s, average, forgetting, min_acc, wc_acc; `tasks` and `parts` by name, as `daemon/standing.py` reads them.
    evaluation: Json = field(default_factory=dict[str, Any])
    # action, since; `fallen` by part (task or task/phase): was, is, rows, at, sources whose labels look wrong,
    # is_fresh where the rows came since its measure was taken
    guard: Json = field(default_factory=dict[str, Any])
    # by task and source: score of the newest rows it sent, before they were trained on, and how many; 64 and "other"
    senders: Json = field(default_factory=dict[str, Any])
    # ranges of the log, first and last id, that a rollback leaves out and reading has not passed yet
    skips: list[list[str]] = field(default_factory=list[list[str]])
    watermark: str = "0-0"
    trimmed_to: str = ""  # the log was trimmed up to here by this process
    lag_events: int | None = None
    pending_rows: int = 0
    counters: Json = field(default_factory=dict[str, Any])
    skipped_steps: int = 0
    totals: Json = field(
        default_factory=dict[str, Any]
    )  # checkpoints, task_switches, rollbacks ...
    drifts: Json = field(default_factory=dict[str, Any])  # phases that were detected, by task
    dead_reasons: Json = field(default_factory=dict[str, Any])  # reason -> events
    step_seconds: Json = field(default_factory=dict[str, Any])  # histogram: bounds, counts, sum
    event_checkpoint_seconds: Json = field(default_factory=dict[str, Any])  # the same
    switch_s: float | None = None  # the last task switch
    replay_rows: int = 0
    replay_bytes: int = 0
    checkpoint: Json = field(
        default_factory=dict[str, Any]
    )  # seq, step, at, stage_ms, write_ms, bytes
    snapshot: Json = field(default_factory=dict[str, Any])  # version, at, scores
    recovery_s: float | None = None
    bit_exact: bool = True
    bit_exact_reason: str = ""
    faults: Json = field(
        default_factory=dict[str, Any]
    )  # name -> {"count": n, "last": RFC 3339, "detail": str}
    events: list[Json] = field(
        default_factory=list[Json]
    )  # the last journal lines and dead letters
