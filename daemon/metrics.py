"""All metrics in one table, and how each is read from the vitals; nothing here asks the trainer anything."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from daemon import condition
from daemon.types import Vitals
from daemon.vitals import unix_s

if TYPE_CHECKING:
    from daemon.types import Json

PREFIX = "mtld_"  # of every name; the table leaves it out
MAX_TASKS = 50  # label values; a metric's labels are bounded whatever producers send
OTHER = "other"  # the tasks beyond them, together
STATES = (
    "starting", "recovering", "training", "idle", "paused", "draining", "stopped", "broker_down", "broker_full",
    "stream_exhausted", "outbox_full", "diverged",
)  # fmt: skip
EVENTS = ("accepted", "control", "duplicate", "dead", "lost", "reread")
ROWS = ("trained", "held_out", "duplicate", "dead", "unlabelled")
# Told from 0 on, since an increase is only seen of a series that was there before.
FAULTS = (
    "broker_down", "broker_full", "stream_exhausted", "stream_regressed", "group_missing", "events_lost",
    "checkpoint_failed", "checkpoint_set_aside", "snapshot_failed", "guard_cannot_roll_back", "hook_failed",
)  # fmt: skip
VERDICTS = ("promoted", "refused", "held")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as its driver describes it; what a driver does not tell is None."""

    index: int
    utilization: float | None = None  # 0 to 1
    memory_bytes: float | None = None
    temperature_celsius: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one scrape is made of: the vitals, None where there are none, and what the host says."""

    vitals: Vitals | None
    disk_free_bytes: float | None = None
    aliases: Mapping[str, int] | None = None  # of published snapshots -> version
    gpus: Sequence[Gpu] = ()


Sample = tuple[tuple[str, ...], Any]  # label values; a number, or a histogram as the vitals have it
Read = Callable[[Seen], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One line of the table."""

    name: str  # without the prefix
    kind: str  # gauge, counter or histogram
    told: str
    read: Read
    labels: tuple[str, ...] = ()
    is_durable: bool = (
        False  # counted in the checkpoint: it falls when a crash takes some work back
    )


def _of(read: Callable[[Vitals], Iterable[Sample]]) -> Read:
    """A metric that needs vitals, and has no samples where there are none."""
    return lambda seen: read(seen.vitals) if seen.vitals is not None else ()


def _number(read: Callable[[Vitals], Any]) -> Read:
    """One number without labels; None = no sample."""
    return _of(lambda vitals: _one(read(vitals)))


def _one(value: Any) -> Iterator[Sample]:
    if value is not None:
        yield (), value


def _named(values: Mapping[str, Any], names: Sequence[str], suffix: str = "") -> Iterator[Sample]:
    for name in names:
        yield (name,), values.get(f"{name}{suffix}", 0)


def _by_task(
    read: Callable[[Vitals], Mapping[str, float | None]],
    together: Callable[[list[float]], float],
) -> Read:
    """A number a task; those of the tasks beyond `MAX_TASKS` are put `together`."""

    def samples(vitals: Vitals) -> Iterator[Sample]:
        shown = {str(task.get("name")) for task in vitals.tasks[:MAX_TASKS]}
        rest: list[float] = []
        for task, value in read(vitals).items():
            if value is None:
                continue
            if task in shown:
                yield (task,), value
            else:
                rest.append(value)
        if rest:
            yield (OTHER,), together(rest)

    return _of(samples)


def _by_part(parts: Mapping[str, float], together: Callable[[list[float]], float]) -> Json:
    """Numbers of parts (`task` or `task/phase`) as one a task."""
    found: dict[str, list[float]] = {}
    for part, value in parts.items():
        found.setdefault(part.partition("/")[0], []).append(value)
    return {task: together(values) for task, values in found.items()}


def _forgotten(vitals: Vitals) -> Json:
    rows = cast("list[Json]", vitals.matrix.get("rows") or [])
    best = cast("dict[str, float]", vitals.matrix.get("best") or {})
    last = cast("dict[str, float]", rows[-1]["parts"] if rows else {})
    lost = {part: best[part] - score for part, score in last.items() if part in best}
    return _by_part(lost, _mean)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _states(vitals: Vitals) -> Iterator[Sample]:
    now = vitals.state if condition.is_running(vitals) else "stopped"
    for state in dict.fromkeys((*STATES, now)):
        yield (state,), int(state == now)


def _build(vitals: Vitals) -> Iterator[Sample]:
    if vitals.build:
        yield tuple(str(vitals.build.get(key, "")) for key in ("version", "torch", "device")), 1


def _faults(faults: Mapping[str, Json]) -> Iterator[Sample]:
    counts = {name: fault.get("count", 1) for name, fault in faults.items()}
    return _named(counts, list(dict.fromkeys((*FAULTS, *counts))))


def _thousandth(value: float | None) -> float | None:
    return None if value is None else value / 1e3


def _gpus(name: str) -> Read:
    def samples(seen: Seen) -> Iterator[Sample]:
        for gpu in seen.gpus:
            if (value := getattr(gpu, name)) is not None:
                yield (str(gpu.index),), value

    return samples


METRICS: tuple[Metric, ...] = (
    Metric("up", "gauge", "1 while the daemon's process runs.",
           lambda seen: _one(int(seen.vitals is not None and condition.is_running(seen.vitals)))),
    Metric("live", "gauge", "1 while its loop ticks, or is busy for no longer than it said: what /livez answers.",
           lambda seen: _one(int(not condition.not_live(seen.vitals)))),
    Metric("ready", "gauge", "1 while it trains what is sent: what /readyz answers.",
           lambda seen: _one(int(not condition.not_ready(seen.vitals)))),
    Metric("state", "gauge", "1 for the state the daemon is in, 0 for all others.", _of(_states), ("state",)),
    Metric("build_info", "gauge", "Versions and device of the running daemon; always 1.", _of(_build),
           ("version", "torch", "device")),
    Metric("vitals_timestamp_seconds", "gauge", "When the loop last ticked and wrote its vitals.",
           _number(lambda v: unix_s(v.written_at))),
    Metric("start_timestamp_seconds", "gauge", "When the daemon's process started.",
           _number(lambda v: unix_s(v.started_at))),
    Metric("events_total", "counter", "Entries of the log by what became of them.",
           _of(lambda v: _named(v.counters, EVENTS, "_events")), ("outcome",), is_durable=True),
    Metric("rows_total", "counter", "Rows by what became of them; unlabelled rows are trained or held out as well.",
           _of(lambda v: _named(v.counters, ROWS, "_rows")), ("outcome",), is_durable=True),
    Metric("event_checkpoint_seconds", "histogram",
           "From adding an entry to the log until the checkpoint that contains its effect is durable.",
           _number(lambda v: v.event_checkpoint_seconds or None)),
    Metric("lag_events", "gauge", "Entries in the log that are not applied yet.", _number(lambda v: v.lag_events)),
    Metric("pending_rows", "gauge", "Rows that wait for their batch to fill.", _number(lambda v: v.pending_rows)),
    Metric("rows_per_second", "gauge", "Rows trained a second, lately.", _number(lambda v: v.rows_per_s)),
    Metric("steps_total", "counter", "Optimizer steps.", _number(lambda v: v.step), is_durable=True),
    Metric("skipped_steps_total", "counter", "Steps whose loss or gradient was not finite; they changed nothing.",
           _number(lambda v: v.skipped_steps), is_durable=True),
    Metric("step_seconds", "histogram", "Duration of a step on a full batch.",
           _number(lambda v: v.step_seconds or None)),
    Metric("loss", "gauge", "Loss of the last step that had rows of the task.",
           _by_task(lambda v: v.losses, max), ("task",)),
    Metric("score", "gauge", "Newest score on the task's hold-outs, by its primary metric.",
           _by_task(lambda v: v.scores, min), ("task",)),
    Metric("forgetting", "gauge", "Best score minus the newest in the accuracy matrix, the mean over the task's phases.",
           _by_task(_forgotten, max), ("task",)),
    Metric("min_score", "gauge", "Lowest score of any phase of the task in the accuracy matrix (min-ACC).",
           _by_task(lambda v: _by_part(v.matrix.get("min_acc") or {}, min), min), ("task",)),
    Metric("average_score", "gauge", "Mean over all parts of the newest row of the accuracy matrix.",
           _number(lambda v: v.matrix.get("average_accuracy"))),
    Metric("task_active", "gauge", "1 for the task that the last switch named.",
           _by_task(lambda v: {t["name"]: int(t["name"] == v.task) for t in v.tasks}, max), ("task",)),
    Metric("task_switches_total", "counter", "Task switches.", _number(lambda v: v.totals.get("task_switches", 0))),
    Metric("drift_total", "counter", "Phases that began because drift was detected in the task's stream.",
           _by_task(lambda v: {t["name"]: v.drifts.get(t["name"], 0) for t in v.tasks}, sum), ("task",), is_durable=True),
    Metric("switch_seconds", "gauge", "Duration of the last task switch, its evaluation included.",
           _number(lambda v: v.switch_s)),
    Metric("replay_rows", "gauge", "Rows in the replay buffer.",
           _by_task(lambda v: {t["name"]: t.get("replay_rows", 0) for t in v.tasks}, sum), ("task",)),
    Metric("replay_bytes", "gauge", "Size of the replay buffer.", _number(lambda v: v.replay_bytes)),
    Metric("checkpoints_total", "counter", "Checkpoints that became durable.",
           _number(lambda v: v.totals.get("checkpoints", 0))),
    Metric("checkpoint_failures_total", "counter", "Checkpoints that could not be written.",
           _number(lambda v: v.totals.get("checkpoint_failures", 0))),
    Metric("checkpoint_last_success_timestamp_seconds", "gauge", "When the last checkpoint became durable.",
           _number(lambda v: unix_s(str(v.checkpoint.get("at", ""))))),
    Metric("checkpoint_stage_seconds", "gauge", "How long training stood still for the last checkpoint.",
           _number(lambda v: _thousandth(v.checkpoint.get("stage_ms")))),
    Metric("checkpoint_write_seconds", "gauge", "How long writing the last checkpoint took, beside training.",
           _number(lambda v: _thousandth(v.checkpoint.get("write_ms")))),
    Metric("checkpoint_bytes", "gauge", "Bytes written for the last checkpoint.",
           _number(lambda v: v.checkpoint.get("bytes"))),
    Metric("recovery_seconds", "gauge", "From the start of the process until it could read its stream.",
           _number(lambda v: v.recovery_s)),
    Metric("snapshots_published_total", "counter", "Snapshots published.",
           _number(lambda v: v.totals.get("snapshots_published", 0))),
    Metric("snapshot_version", "gauge", "Version of the snapshot that an alias points to.",
           lambda seen: (((alias,), number) for alias, number in (seen.aliases or {}).items()), ("alias",)),
    Metric("promotions_total", "counter", "Snapshots judged for becoming champion, by verdict.",
           _of(lambda v: _named(v.totals, VERDICTS)), ("verdict",)),
    Metric("rollbacks_total", "counter", "Rollbacks to an older checkpoint.",
           _number(lambda v: v.totals.get("rollbacks", 0))),
    Metric("hook_failures_total", "counter", "Promotion hooks that failed for good.",
           _number(lambda v: v.totals.get("hook_failures", 0))),
    Metric("dead_letters_total", "counter", "Refused events by reason.",
           _of(lambda v: _named(v.dead_reasons, list(v.dead_reasons))), ("reason",)),
    Metric("faults_total", "counter", "Named conditions that `mtld status` shows.",
           _of(lambda v: _faults(v.faults)), ("fault",)),
    Metric("broker_up", "gauge", "1 while the server answers.", _number(lambda v: int(v.broker_up))),
    Metric("paused", "gauge", "1 while an operator has paused it.", _number(lambda v: int(v.paused is not None))),
    Metric("epoch", "gauge", "Moves when the stream went back or the state was rolled back.",
           _number(lambda v: v.epoch)),
    Metric("disk_free_bytes", "gauge", "Free space where the state directory is.",
           lambda seen: _one(seen.disk_free_bytes)),
    Metric("gpu_utilization_ratio", "gauge", "Part of the time that the GPU computes, 0 to 1.",
           _gpus("utilization"), ("gpu",)),
    Metric("gpu_memory_used_bytes", "gauge", "Memory of the GPU in use.", _gpus("memory_bytes"), ("gpu",)),
    Metric("gpu_temperature_celsius", "gauge", "Temperature of the GPU.", _gpus("temperature_celsius"), ("gpu",)),
    Metric("gpu_power_watts", "gauge", "Power that the GPU draws.", _gpus("power_watts"), ("gpu",)),
)  # fmt: skip
