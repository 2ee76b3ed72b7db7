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
from daemon.mastery import MAX_SOURCES
from daemon.metrics import FAULTS, METRICS, STATES
from daemon.samples import MAX_TASKS, PREFIX, Gpu, Seen
from daemon.tally import CHECKPOINT_S, STEP_S, Histogram
from daemon.types import Vitals
from daemon.web.scrape import Rising, exposition
from tests.support.evaluated import COLLAPSED, SENDERS, evaluation, guard, of_task

ROOT = Path(__file__).parents[2]


def full(**facts: Any) -> Seen:
    """Everything that can be seen, and more tasks than are shown."""
    steps, waits = Histogram(STEP_S), Histogram(CHECKPOINT_S)
    steps.add(0.003, 5)
    waits.add(90_000)
    names = [f"task-{number}" for number in range(MAX_TASKS + 3)]
    first = of_task(at="2026-01-01T00:00:00Z", step=70)
    scored = dict.fromkeys(names, first)
    known: dict[str, Any] = {
        "written_at": vitals.now(), "started_at": vitals.now(), "pid": os.getpid(), "state": "training",
        "build": {"version": "1", "torch": "2", "device": "cpu"}, "broker_up": True, "epoch": 2, "step": 70,
        "rows_per_s": 10.0, "task": "task-1", "lag_events": 3, "pending_rows": 4, "skipped_steps": 1,
        "counters": {"accepted_events": 9, "lost_events": 2, "trained_rows": 99},
        "tasks": [{"name": name, "replay_rows": 2} for name in names],
        "losses": dict.fromkeys(names, 0.25), "scores": dict.fromkeys(names, 0.125), "matrix": {"average_accuracy": 0.125},
        "evaluation": evaluation(tasks=scored), "guard": guard(("cam-b",), "task-1/one"), "skips": [["1-0", "2-0"]],
        "senders": dict.fromkeys(names, SENDERS["digits"]),
        "replay_bytes": 1000, "switch_s": 0.5, "recovery_s": 1.5, "step_seconds": steps.to_dict(),
        "event_checkpoint_seconds": waits.to_dict(), "dead_reasons": {"bad_json": 3},
        "totals": {"checkpoints": 6, "refused": 2},
        "faults": {"events_lost": {"count": 2, "last": vitals.now(), "detail": ""}},
        "checkpoint": {"at": "2026-01-01T00:00:00Z", "stage_ms": 2.0, "write_ms": 50.0, "bytes": 10},
    }  # fmt: skip
    return Seen(Vitals(**{**known, **facts}), 5e9, {"latest": 3}, [Gpu(0, 0.5, 1e9, 60.0, 250.0)],
                dict.fromkeys(names, 0.03))  # fmt: skip


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
    assert one(seen, "promotions_total", verdict="refused") == 2
    assert one(seen, "promotions_total", verdict="promoted") == 0
    assert one(seen, "gpu_power_watts", gpu="0") == 250
    assert one(seen, "snapshot_version", alias="latest") == 3
    assert one(seen, "paused") == 0
    assert one(full(paused="lunch"), "paused") == 1


def test_what_is_known_is_told_from_the_newest_evaluation_alone() -> None:
    seen = full()
    by_task = {
        "score": 0.97, "score_rows": 240, "score_timestamp_seconds": 1767225600, "macro_recall": 0.96,
        "worst_recall": 0.85, "task_collapsed": 0, "forgetting": 0.01, "min_score": 0.9, "fallen": 0,
    }  # fmt: skip
    assert {name: one(seen, name, task="task-0") for name in by_task} == by_task
    gone = evaluation(tasks={"task-2": of_task(score=None, worst=None, collapsed=COLLAPSED)})
    assert one(full(evaluation=gone), "score", task="task-2") is None
    assert one(full(evaluation=gone), "worst_recall", task="task-2") is None
    assert one(full(evaluation=gone), "task_collapsed", task="task-2") == 1
    overall = {"average_score": 0.93, "average_forgetting": 0.02, "worst_case_score": 0.88}
    assert {name: one(seen, name) for name in overall} == overall
    at = one(full(evaluation={"at": "2026-01-01T00:00:00Z"}), "evaluation_timestamp_seconds")
    assert at == 1767225600
    assert one(full(evaluation={}), "score", task="task-0") is None


def test_what_fell_is_one_and_everything_else_zero_so_that_alerts_clear() -> None:
    seen, well = full(), full(guard={}, skips=[])
    assert [one(seen, "fallen", task=f"task-{number}") for number in range(3)] == [0, 1, 0]
    assert one(well, "fallen", task="task-1") == 0
    assert one(seen, "suspect_source", task="task-1", source="cam-b") == 1
    assert one(well, "suspect_source", task="task-1", source="cam-b") is None
    assert (one(seen, "skip_active"), one(well, "skip_active")) == (1, 0)


def test_a_score_is_stale_where_status_says_so() -> None:
    assert one(full(step=99), "score_stale", task="task-1") == 1  # scored long ago, and steps since
    assert one(full(), "score_stale", task="task-1") == 0
    young = evaluation("task-1")
    assert one(full(step=9999, evaluation=young), "score_stale", task="task-1") == 0


def test_sources_are_told_by_task_and_bounded() -> None:
    assert one(full(), "source_score", task="task-1", source="cam-b") == 0.11
    assert one(full(), "source_rows", task="task-1", source="other") == 40
    many = {f"cam-{number}": {"score": 0.5, "rows": 2} for number in range(MAX_SOURCES + 5)}
    many["other"] = {"score": 0.25, "rows": 1}
    found = served(full(senders={"task-1": many, "a task that is gone": many}))
    rows = {dict(labels)["source"]: x for (of, labels), x in found.items() if of == f"{PREFIX}source_rows"}  # fmt: skip
    assert len(rows) == MAX_SOURCES + 1
    assert rows["other"] == 5 * 2 + 1
    scores = {dict(labels)["source"]: x for (of, labels), x in found.items() if of == f"{PREFIX}source_score"}  # fmt: skip
    assert scores["other"] == 0.25


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
    for name in (
        "loss",
        "score",
        "forgetting",
        "min_score",
        "fallen",
        "task_active",
        "replay_rows",
    ):
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
