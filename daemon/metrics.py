"""All metrics in one table, and how each is read from the vitals; nothing here asks the trainer anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon import condition
from daemon.mastery import KNOWN
from daemon.samples import MAX_TASKS, Metric, bounded, by_task, named, number, of, one
from daemon.vitals import unix_s

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from daemon.samples import Read, Sample, Seen
    from daemon.types import Json, Vitals

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


def _states(vitals: Vitals) -> Iterator[Sample]:
    now = vitals.state if condition.is_running(vitals) else "stopped"
    for state in dict.fromkeys((*STATES, now)):
        yield (state,), int(state == now)


def _build(vitals: Vitals) -> Iterator[Sample]:
    if vitals.build:
        yield tuple(str(vitals.build.get(key, "")) for key in ("version", "torch", "device")), 1


def _faults(faults: Mapping[str, Json]) -> Iterator[Sample]:
    counts = {name: fault.get("count", 1) for name, fault in faults.items()}
    return named(counts, list(dict.fromkeys((*FAULTS, *counts))))


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
           lambda seen: one(int(seen.vitals is not None and condition.is_running(seen.vitals)))),
    Metric("live", "gauge", "1 while its loop ticks, or is busy for no longer than it said: what /livez answers.",
           lambda seen: one(int(not condition.not_live(seen.vitals)))),
    Metric("ready", "gauge", "1 while it trains what is sent: what /readyz answers.",
           lambda seen: one(int(not condition.not_ready(seen.vitals)))),
    Metric("state", "gauge", "1 for the state the daemon is in, 0 for all others.", of(_states), ("state",)),
    Metric("build_info", "gauge", "Versions and device of the running daemon; always 1.", of(_build),
           ("version", "torch", "device")),
    Metric("vitals_timestamp_seconds", "gauge", "When the loop last ticked and wrote its vitals.",
           number(lambda v: unix_s(v.written_at))),
    Metric("start_timestamp_seconds", "gauge", "When the daemon's process started.",
           number(lambda v: unix_s(v.started_at))),
    Metric("events_total", "counter", "Entries of the log by what became of them.",
           of(lambda v: named(v.counters, EVENTS, "_events")), ("outcome",), is_durable=True),
    Metric("rows_total", "counter", "Rows by what became of them; unlabelled rows are trained or held out as well.",
           of(lambda v: named(v.counters, ROWS, "_rows")), ("outcome",), is_durable=True),
    Metric("event_checkpoint_seconds", "histogram",
           "From adding an entry to the log until the checkpoint that contains its effect is durable.",
           number(lambda v: v.event_checkpoint_seconds or None)),
    Metric("lag_events", "gauge", "Entries in the log that are not applied yet.", number(lambda v: v.lag_events)),
    Metric("pending_rows", "gauge", "Rows that wait for their batch to fill.", number(lambda v: v.pending_rows)),
    Metric("rows_per_second", "gauge", "Rows trained a second, lately.", number(lambda v: v.rows_per_s)),
    Metric("steps_total", "counter", "Optimizer steps.", number(lambda v: v.step), is_durable=True),
    Metric("skipped_steps_total", "counter", "Steps whose loss or gradient was not finite; they changed nothing.",
           number(lambda v: v.skipped_steps), is_durable=True),
    Metric("step_seconds", "histogram", "Duration of a step on a full batch.",
           number(lambda v: v.step_seconds or None)),
    Metric("loss", "gauge", "Loss of the last step that had rows of the task.",
           by_task(lambda v: v.losses, max), ("task",)),
    *KNOWN,
    Metric("task_active", "gauge", "1 for the task that the last switch named.",
           by_task(lambda v: {t["name"]: int(t["name"] == v.task) for t in v.tasks}, max), ("task",)),
    Metric("task_switches_total", "counter", "Task switches.", number(lambda v: v.totals.get("task_switches", 0))),
    Metric("drift_total", "counter", "Phases that began because drift was detected in the task's stream.",
           by_task(lambda v: {t["name"]: v.drifts.get(t["name"], 0) for t in v.tasks}, sum), ("task",), is_durable=True),
    Metric("switch_seconds", "gauge", "Duration of the last task switch, its evaluation included.",
           number(lambda v: v.switch_s)),
    Metric("replay_rows", "gauge", "Rows in the replay buffer.",
           by_task(lambda v: {t["name"]: t.get("replay_rows", 0) for t in v.tasks}, sum), ("task",)),
    Metric("replay_bytes", "gauge", "Size of the replay buffer.", number(lambda v: v.replay_bytes)),
    Metric("checkpoints_total", "counter", "Checkpoints that became durable.",
           number(lambda v: v.totals.get("checkpoints", 0))),
    Metric("checkpoint_failures_total", "counter", "Checkpoints that could not be written.",
           number(lambda v: v.totals.get("checkpoint_failures", 0))),
    Metric("checkpoint_last_success_timestamp_seconds", "gauge", "When the last checkpoint became durable.",
           number(lambda v: unix_s(str(v.checkpoint.get("at", ""))))),
    Metric("checkpoint_stage_seconds", "gauge", "How long training stood still for the last checkpoint.",
           number(lambda v: _thousandth(v.checkpoint.get("stage_ms")))),
    Metric("checkpoint_write_seconds", "gauge", "How long writing the last checkpoint took, beside training.",
           number(lambda v: _thousandth(v.checkpoint.get("write_ms")))),
    Metric("checkpoint_bytes", "gauge", "Bytes written for the last checkpoint.",
           number(lambda v: v.checkpoint.get("bytes"))),
    Metric("recovery_seconds", "gauge", "From the start of the process until it could read its stream.",
           number(lambda v: v.recovery_s)),
    Metric("snapshots_published_total", "counter", "Snapshots published.",
           number(lambda v: v.totals.get("snapshots_published", 0))),
    Metric("snapshot_version", "gauge", "Version of the snapshot that an alias points to.",
           lambda seen: (((alias,), number) for alias, number in (seen.aliases or {}).items()), ("alias",)),
    Metric("ece", "gauge", "How far the probabilities of the newest snapshot are off (ECE), on held-out rows.",
           lambda seen: bounded(seen.ece, list(seen.ece)[:MAX_TASKS], max), ("task",)),
    Metric("promotions_total", "counter", "Snapshots judged for becoming champion, by verdict.",
           of(lambda v: named(v.totals, VERDICTS)), ("verdict",)),
    Metric("rollbacks_total", "counter", "Rollbacks to an older checkpoint.",
           number(lambda v: v.totals.get("rollbacks", 0))),
    Metric("hook_failures_total", "counter", "Promotion hooks that failed for good.",
           number(lambda v: v.totals.get("hook_failures", 0))),
    Metric("dead_letters_total", "counter", "Refused events by reason.",
           of(lambda v: named(v.dead_reasons, list(v.dead_reasons))), ("reason",)),
    Metric("faults_total", "counter", "Named conditions that `mtld status` shows.",
           of(lambda v: _faults(v.faults)), ("fault",)),
    Metric("broker_up", "gauge", "1 while the server answers.", number(lambda v: int(v.broker_up))),
    Metric("paused", "gauge", "1 while an operator has paused it.", number(lambda v: int(v.paused is not None))),
    Metric("epoch", "gauge", "Moves when the stream went back or the state was rolled back.",
           number(lambda v: v.epoch)),
    Metric("disk_free_bytes", "gauge", "Free space where the state directory is.",
           lambda seen: one(seen.disk_free_bytes)),
    Metric("gpu_utilization_ratio", "gauge", "Part of the time that the GPU computes, 0 to 1.",
           _gpus("utilization"), ("gpu",)),
    Metric("gpu_memory_used_bytes", "gauge", "Memory of the GPU in use.", _gpus("memory_bytes"), ("gpu",)),
    Metric("gpu_temperature_celsius", "gauge", "Temperature of the GPU.", _gpus("temperature_celsius"), ("gpu",)),
    Metric("gpu_power_watts", "gauge", "Power that the GPU draws.", _gpus("power_watts"), ("gpu",)),
)  # fmt: skip
