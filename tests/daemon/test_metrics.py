"""The table of metrics: everything in it is served, everything served is in it, and labels stay bounded."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon import vitals
from daemon.metrics import FAULTS, MAX_TASKS, METRICS, PREFIX, STATES, Gpu, Seen
from daemon.tally import CHECKPOINT_S, STEP_S, Histogram
from daemon.types import Vitals
from daemon.web.scrape import Rising, exposition

ROOT = Path(__file__).parents[2]


def full(**facts: Any) -> Seen:
    """Everything that can be seen, and more tasks than are shown."""
    steps, waits = Histogram(STEP_S), Histogram(CHECKPOINT_S)
    steps.add(0.003, 5)
    waits.add(90_000)
    names = [f"task-{number}" for number in range(MAX_TASKS + 3)]
    parts = {f"{name}/one": 0.5 for name in names}
    known: dict[str, Any] = {
        "written_at": vitals.now(), "started_at": vitals.now(), "pid": os.getpid(), "state": "training",
        "build": {"version": "1", "torch": "2", "device": "cpu"}, "broker_up": True, "epoch": 2, "step": 70,
        "rows_per_s": 10.0, "task": "task-1", "lag_events": 3, "pending_rows": 4, "skipped_steps": 1,
        "counters": {"accepted_events": 9, "lost_events": 2, "trained_rows": 99},
        "tasks": [{"name": name, "replay_rows": 2} for name in names],
        "losses": dict.fromkeys(names, 0.25), "scores": dict.fromkeys(names, 0.75),
        "matrix": {"rows": [{"parts": parts}], "average_accuracy": 0.5, "best": dict.fromkeys(parts, 0.7),
                   "min_acc": {**parts, "task-1/one": 0.125, "task-1/two": 0.25}},
        "replay_bytes": 1000, "switch_s": 0.5, "recovery_s": 1.5, "step_seconds": steps.to_dict(),
        "event_checkpoint_seconds": waits.to_dict(), "dead_reasons": {"bad_json": 3},
        "totals": {"checkpoints": 6, "refused": 2},
        "faults": {"events_lost": {"count": 2, "last": vitals.now(), "detail": ""}},
        "checkpoint": {"at": "2026-01-01T00:00:00Z", "stage_ms": 2.0, "write_ms": 50.0, "bytes": 10},
    }  # fmt: skip
    return Seen(Vitals(**{**known, **facts}), 5e9, {"latest": 3}, [Gpu(0, 0.5, 1e9, 60.0, 250.0)])


def served(seen: Seen) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Samples by name and labels, as Prometheus reads them."""
    text = exposition(lambda: seen)().decode()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def one(seen: Seen, name: str, **labels: str) -> float | None:
    """One sample."""
    return served(seen).get((f"{PREFIX}{name}", frozenset(labels.items())))


def test_every_metric_of_the_table_is_served_and_every_metric_served_is_in_the_table() -> None:
    text = exposition(full)().decode()
    found = {
        (line.split()[2], line.split()[3])
        for line in text.splitlines()
        if line.startswith("# TYPE")
    }
    assert found == {(f"{PREFIX}{metric.name}", metric.kind) for metric in METRICS}


def test_every_metric_has_exactly_the_labels_of_the_table() -> None:
    labels: dict[str, set[str]] = {}
    for name, pairs in served(full()):
        of = next(m.name for m in METRICS if name.removeprefix(PREFIX).startswith(m.name) and (
            m.kind == "histogram" or name == f"{PREFIX}{m.name}"))  # fmt: skip
        labels.setdefault(of, set()).update(key for key, _ in pairs if key != "le")
    assert labels == {metric.name: set(metric.labels) for metric in METRICS}


@pytest.mark.apt
@pytest.mark.parametrize("seen", [full(), Seen(None)], ids=["full", "empty"])
def test_promtool_finds_nothing_to_say(seen: Seen) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is missing: apt install prometheus")
    told = subprocess.run(
        [promtool, "check", "metrics"],
        input=exposition(lambda: seen)(),
        capture_output=True,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, b"", b"")


def test_without_vitals_the_daemon_is_down_and_nothing_else_is_made_up() -> None:
    found = served(Seen(None, 5.0))
    assert {name: value for (name, _), value in found.items()} == {
        "mtld_up": 0.0, "mtld_live": 0.0, "mtld_ready": 0.0, "mtld_disk_free_bytes": 5.0
    }  # fmt: skip


def test_numbers_are_in_base_units_and_from_the_field_that_means_them() -> None:
    seen = full()
    assert one(seen, "events_total", outcome="lost") == 2
    assert one(seen, "rows_total", outcome="trained") == 99
    assert one(seen, "rows_total", outcome="dead") == 0
    assert one(seen, "checkpoint_stage_seconds") == 0.002
    assert one(seen, "checkpoint_last_success_timestamp_seconds") == 1767225600
    assert one(seen, "forgetting", task="task-1") == pytest.approx(0.2)
    assert one(seen, "min_score", task="task-1") == 0.125
    assert one(seen, "promotions_total", verdict="refused") == 2
    assert one(seen, "promotions_total", verdict="promoted") == 0
    assert one(seen, "gpu_power_watts", gpu="0") == 250
    assert one(seen, "snapshot_version", alias="latest") == 3
    assert one(seen, "paused") == 0
    assert one(full(paused="lunch"), "paused") == 1


def test_a_histogram_is_cumulative_and_its_last_bucket_holds_all() -> None:
    seen = full()
    assert one(seen, "step_seconds_bucket", le="0.0025") == 0
    assert one(seen, "step_seconds_bucket", le="0.005") == 5
    assert one(seen, "step_seconds_bucket", le="+Inf") == one(seen, "step_seconds_count") == 5
    assert one(seen, "step_seconds_sum") == pytest.approx(0.015)
    assert one(seen, "event_checkpoint_seconds_bucket", le="86400.0") == 0
    assert one(seen, "event_checkpoint_seconds_bucket", le="+Inf") == 1


def test_tasks_beyond_the_bound_are_one_label_value() -> None:
    found = served(full())
    for name in ("loss", "score", "forgetting", "min_score", "task_active", "replay_rows"):
        tasks = {dict(labels)["task"] for of, labels in found if of == f"{PREFIX}{name}"}
        assert len(tasks) == MAX_TASKS + 1
        assert "other" in tasks
    assert one(full(), "replay_rows", task="other") == 6  # three tasks of two rows


def test_it_is_in_one_state_and_in_none_of_the_others() -> None:
    found = {state: one(full(), "state", state=state) for state in STATES}
    assert found == {state: float(state == "training") for state in STATES}
    gone = full(pid=2**22 + 1)
    assert (one(gone, "up"), one(gone, "state", state="stopped")) == (0, 1)
    assert one(full(state="of a later version"), "state", state="of a later version") == 1


def test_every_fault_that_the_code_names_is_told_from_zero_on() -> None:
    named = {
        node.args[0].value
        for path in (ROOT / "daemon").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "fault"
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(named) > 3, "has the way a fault is told changed?"
    assert named <= set(FAULTS)
    assert one(full(), "faults_total", fault="events_lost") == 2
    assert one(full(), "faults_total", fault="stream_regressed") == 0


def test_a_durable_counter_does_not_fall_while_a_crash_is_made_good() -> None:
    rising = Rising()
    assert [rising.of("steps", 1, value) for value in (5, 9, 7, 8, 9, 10)] == [5, 9, 9, 9, 9, 10]


def test_after_a_rollback_a_durable_counter_goes_on_from_where_it_was() -> None:
    rising = Rising()
    assert [rising.of("steps", 1, value) for value in (5, 100)] == [5, 100]
    assert [rising.of("steps", 2, value) for value in (40, 45)] == [100, 105]
    assert rising.of("rows", 2, 3) == 3


def test_a_scrape_after_a_crash_shows_what_the_scrape_before_showed() -> None:
    seen = [full(step=70)]
    scrape = exposition(lambda: seen[0])
    before = scrape()
    seen[0] = full(step=60)
    assert b"mtld_steps_total 70.0" in before
    assert b"mtld_steps_total 70.0" in scrape()
