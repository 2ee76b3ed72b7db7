"""Every alert fires for what it is about, stays quiet beside it, clears again, and leads to its section of the runbook."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.metrics import EVENTS, METRICS, STATES, VERDICTS
from daemon.samples import PREFIX
from tests.support.daemon_process import ROOT

FOLDER = ROOT / "deploy/prometheus"
RULES = {
    rule["alert"]: rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
}
BAD, GOOD = 'instance="bad",job="mtld"', 'instance="good",job="mtld"'
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is missing: apt install prometheus"
)


@dataclass(frozen=True, slots=True)
class Case:
    """Values a minute of series on a host where it goes wrong and on one where it nearly does, in promtool's notation.

    `{}` in a series stands for the labels of the host. It must not have fired at `before`, fire at `fires` on
    the bad host alone, and be clear at `clear`.
    """

    bad: dict[str, str]
    good: dict[str, str]
    before: str
    fires: str
    clear: str
    labels: str = ""  # of the alert beside those of the host


MINUTE, TEN, ALL = (
    f'mtld_event_checkpoint_seconds_bucket{{{{le="{bound}",{{}}}}}}'
    for bound in ("60", "600", "+Inf")
)
STARTED = "mtld_start_timestamp_seconds{{{}}}"
NEWEST, STEPS = "mtld_checkpoint_last_success_timestamp_seconds{{{}}}", "mtld_steps_total{{{}}}"
REGRESSED = 'mtld_faults_total{{fault="stream_regressed",{}}}'
FALLEN = 'mtld_fallen{{task="digits",{}}}'
CASES = {
    "MtldDown": Case(
        {"mtld_up{{{}}}": "1x5 0x9 1x10"}, {"mtld_up{{{}}}": "1x5 0 1x20"}, "5m", "9m", "16m"
    ),
    "MtldTrainLoopStalled": Case(
        {"mtld_live{{{}}}": "1x5 0x10 1x10", "mtld_up{{{}}}": "1x30"},
        {"mtld_live{{{}}}": "1x5 0x20", "mtld_up{{{}}}": "1x5 0x20"},  # a dead one is another alert
        "5m", "9m", "17m",
    ),
    "MtldEventAgeTooHigh": Case(
        {MINUTE: "0x20 0+60x30", TEN: "0+60x50", ALL: "0+60x50"},
        {MINUTE: "0+60x50", TEN: "0+60x50", ALL: "0+60x50"},
        "1m", "15m", "45m",
    ),
    "MtldLagHigh": Case(
        {"mtld_lag_events{{{}}}": "0x5 9000x20 100x10"},
        {"mtld_lag_events{{{}}}": "0x5 9000x5 7900x20"},
        "10m", "20m", "30m",
    ),
    "MtldCheckpointTooOld": Case(
        {NEWEST: "0+60x5 300x10 960+60x10", STEPS: "0+100x30"},
        {NEWEST: "0+60x5 300x20", STEPS: "0x30"},  # an idle one has nothing to write
        "5m", "11m", "20m",
    ),
    "MtldCheckpointFailing": Case(
        {"mtld_checkpoint_failures_total{{{}}}": "0x5 1x30"},
        {"mtld_checkpoint_failures_total{{{}}}": "3x30"},
        "4m", "8m", "20m",
    ),
    "MtldEventsLost": Case(
        {'mtld_events_total{{outcome="lost",{}}}': "0x5 7x120"},
        {'mtld_events_total{{outcome="lost",{}}}': "7x120", 'mtld_events_total{{outcome="accepted",{}}}': "0+9x120"},
        "4m", "8m", "90m", 'outcome="lost"',
    ),
    "MtldDeadLettersGrowing": Case(
        {'mtld_events_total{{outcome="dead",{}}}': "0x5 30x60"},
        {'mtld_events_total{{outcome="dead",{}}}': "0x5 3x60"},
        "4m", "8m", "40m", 'outcome="dead"',
    ),
    "MtldNonFiniteLoss": Case(
        {'mtld_state{{state="diverged",{}}}': "0x5 1x10 0x10", "mtld_skipped_steps_total{{{}}}": "0x30"},
        {'mtld_state{{state="diverged",{}}}': "0x30", "mtld_skipped_steps_total{{{}}}": "4x30"},
        "4m", "8m", "20m", 'state="diverged"',
    ),
    "MtldForgettingHigh": Case(
        {'mtld_forgetting{{task="digits",{}}}': "0x5 0.5x20 0.1x10"},
        {'mtld_forgetting{{task="digits",{}}}': "0x5 0.5x5 0.19x30"},
        "10m", "20m", "30m", 'task="digits"',
    ),
    "MtldTaskFell": Case(
        {FALLEN: "0x5 1x10 0x10"}, {FALLEN: "0x30"}, "4m", "8m", "17m", 'task="digits"'
    ),
    "MtldTaskCollapsed": Case(
        {'mtld_task_collapsed{{task="digits",{}}}': "0x5 1x10 0x10"},
        {'mtld_task_collapsed{{task="digits",{}}}': "0x30", 'mtld_worst_recall{{task="digits",{}}}': "0x30"},
        "4m", "8m", "17m", 'task="digits"',
    ),
    "MtldScoresStale": Case(
        {'mtld_score_stale{{task="digits",{}}}': "0x5 1x20 0x10"},
        {'mtld_score_stale{{task="digits",{}}}': "0x5 1x8 0x20"},  # paused for a while, and scored soon after
        "10m", "17m", "28m", 'task="digits"',
    ),
    "MtldSkipActive": Case(
        {"mtld_skip_active{{{}}}": "0x5 1x90 0x10"}, {"mtld_skip_active{{{}}}": "0x5 1x50 0x50"}, "60m", "80m", "100m"
    ),
    "MtldBrokerDown": Case(
        {"mtld_broker_up{{{}}}": "1x5 0x10 1x10", "mtld_up{{{}}}": "1x30"},
        {"mtld_broker_up{{{}}}": "1x5 0x10 1x10", "mtld_up{{{}}}": "1x5 0x20"},
        "5m", "9m", "20m",
    ),
    "MtldStreamRegressed": Case(
        {REGRESSED: "0x5 1x120"},
        {REGRESSED: "2x120", 'mtld_faults_total{{fault="broker_down",{}}}': "0x5 1x120"},
        "4m", "8m", "90m", 'fault="stream_regressed"',
    ),
    "MtldPausedTooLong": Case(
        {"mtld_paused{{{}}}": "0x5 1x90 0x10"}, {"mtld_paused{{{}}}": "1x50 0 1x50"}, "60m", "80m", "100m"
    ),
    "MtldDiskBelowFloor": Case(
        {"mtld_disk_free_bytes{{{}}}": "5e9x5 2e9x10 2e10x10", "mtld_checkpoint_bytes{{{}}}": "1e9x30"},
        {"mtld_disk_free_bytes{{{}}}": "2e9x30", "mtld_checkpoint_bytes{{{}}}": "1e7x30"},
        "4m", "14m", "20m",
    ),
    "MtldRestarting": Case(
        {"mtld_start_timestamp_seconds{{{}}}": "0x5 400 500 600x60"},
        {"mtld_start_timestamp_seconds{{{}}}": "0x5 400 500x60"},
        "6m", "8m", "50m",
    ),
    "MtldPromotionRefused": Case(
        {'mtld_promotions_total{{verdict="refused",{}}}': "0x5 1x120"},
        {'mtld_promotions_total{{verdict="promoted",{}}}': "0x5 1x120"},
        "4m", "8m", "90m", 'verdict="refused"',
    ),
    "MtldScrapeMissing": Case(
        {"up{{{}}}": "1x5 0x10 1x10"}, {"up{{{}}}": "1x5 0 1x20"}, "6m", "10m", "20m"
    ),
    "MtldGpuHot": Case(
        {'mtld_gpu_temperature_celsius{{gpu="0",{}}}': "60x5 90x10 70x10"},
        {'mtld_gpu_temperature_celsius{{gpu="0",{}}}': "84x30"},
        "9m", "13m", "20m", 'gpu="0"',
    ),
}  # fmt: skip

MORE = [  # the other halves of expressions that have two
    (
        "MtldTaskFell",  # and the alert names the source that is to blame
        Case(
            {
                FALLEN: "0x5 1x10 0x10",
                'mtld_suspect_source{{task="digits",source="cam-b",{}}}': "_x5 1x10",
            },
            {FALLEN: "0x30"},
            "4m",
            "8m",
            "25m",
            'task="digits",source="cam-b"',
        ),
    ),
    (
        "MtldForgettingHigh",  # of a stream without task switches: the newest evaluation says it
        Case(
            {
                'mtld_forgetting{{task="digits",{}}}': "0x5 0.5x20 0.1x10",
                "mtld_task_switches_total{{{}}}": "0x40",
            },
            {
                'mtld_forgetting{{task="digits",{}}}': "0x40",
                "mtld_task_switches_total{{{}}}": "0x40",
            },
            "10m",
            "20m",
            "30m",
            'task="digits"',
        ),
    ),
    (
        "MtldCheckpointTooOld",
        Case(
            {STARTED: "0x60", STEPS: "0+100x60", NEWEST: "_x19 1200x40"},
            {STARTED: "0x60", STEPS: "0x60"},
            "2m",
            "10m",
            "21m",
        ),
    ),
    (
        "MtldNonFiniteLoss",
        Case(
            {"mtld_skipped_steps_total{{{}}}": "0x5 1x30"},
            {"mtld_skipped_steps_total{{{}}}": "1x30"},
            "4m",
            "8m",
            "20m",
        ),
    ),
    (
        "MtldDiskBelowFloor",
        Case(
            {"mtld_disk_free_bytes{{{}}}": "5e9x5 9e8x10 5e9x10"},
            {"mtld_disk_free_bytes{{{}}}": "2e9x30"},
            "5m",
            "13m",
            "20m",
        ),
    ),
]


def expected(alert: str, case: Case) -> dict[str, Any]:
    """The alert on the bad host, its annotations as Prometheus fills them in."""
    rule = RULES[alert]
    words = re.findall(r'(\w+)="([^"]*)"', f"{BAD},{case.labels}")
    labels: dict[str, str] = dict(words)

    def filled(text: str) -> str:
        return re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda found: labels.get(found[1], ""), text)

    notes = {key: filled(text) for key, text in rule["annotations"].items()}
    return {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": notes}


def group(alert: str, case: Case) -> dict[str, Any]:
    series = [
        {"series": name.format(host), "values": values}
        for host, by_name in ((BAD, case.bad), (GOOD, case.good))
        for name, values in by_name.items()
    ]
    if alert != "MtldScrapeMissing":  # which fires where nothing is scraped at all
        series.append({"series": f"up{{{BAD}}}", "values": "1x200"})
    at = [(case.before, []), (case.fires, [expected(alert, case)]), (case.clear, [])]
    tests = [{"eval_time": when, "alertname": alert, "exp_alerts": found} for when, found in at]
    return {"name": alert, "interval": "1m", "input_series": series, "alert_rule_test": tests}


def promtool(*words: str | Path) -> None:
    done = subprocess.run(["promtool", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.apt
@needs_promtool
@pytest.mark.parametrize(("alert", "case"), [*CASES.items(), *MORE])
def test_every_alert_fires_on_the_bad_host_alone_and_clears(
    alert: str, case: Case, tmp_path: Path
) -> None:
    cases = tmp_path / "cases.yml"
    files = [str(FOLDER / "alerts.yml")]
    cases.write_text(json.dumps({"rule_files": files, "tests": [group(alert, case)]}))
    promtool("test", "rules", cases)


@pytest.mark.apt
@needs_promtool
def test_missing_metrics_of_every_host_are_noticed_too(tmp_path: Path) -> None:
    alert, rule = "MtldScrapeMissing", RULES["MtldScrapeMissing"]
    notes = {
        key: text.replace("{{ $labels.instance }}", "") for key, text in rule["annotations"].items()
    }
    found = [{"exp_labels": {"job": "mtld", **rule["labels"]}, "exp_annotations": notes}]
    test = {"eval_time": "5m", "alertname": alert, "exp_alerts": found}
    series = [{"series": 'up{job="other"}', "values": "1x10"}]
    cases = tmp_path / "cases.yml"
    tests = [{"interval": "1m", "input_series": series, "alert_rule_test": [test]}]
    cases.write_text(json.dumps({"rule_files": [str(FOLDER / "alerts.yml")], "tests": tests}))
    promtool("test", "rules", cases)


@pytest.mark.apt
@needs_promtool
def test_prometheus_accepts_rules_and_settings() -> None:
    promtool("check", "rules", "--lint=all", "--lint-fatal", FOLDER / "alerts.yml")
    promtool("check", "config", "--lint=all", "--lint-fatal", FOLDER / "prometheus.yml")


def test_every_alert_is_tested_and_leads_to_its_section_of_the_runbook() -> None:
    assert set(CASES) == set(RULES)
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    sections = re.findall(r"^#+ (Mtld\w+)$", page, re.MULTILINE)
    assert sorted(sections) == sorted(RULES)
    for alert, rule in RULES.items():
        file, _, anchor = rule["annotations"]["runbook_url"].partition("#")
        assert file == "docs/operations.md"
        assert anchor == alert.lower()
        assert rule["labels"]["severity"] in {"critical", "warning"}


def test_alerts_and_dashboard_use_metrics_that_exist() -> None:
    known = {f"{PREFIX}{metric.name}" for metric in METRICS}
    board = (ROOT / "deploy/grafana/dashboards/mtld.json").read_text("utf-8")
    rules = " ".join(rule["expr"] for rule in RULES.values())
    used = set(re.findall(r"\bmtld_\w+", f"{board} {rules}"))
    assert {name.removesuffix("_bucket") for name in used} <= known
    labels = {f"{PREFIX}{metric.name}": metric.labels for metric in METRICS}
    values = {
        "outcome": EVENTS,
        "state": STATES,
        "verdict": VERDICTS,
        "fault": ("stream_regressed",),
    }
    asked = re.findall(r'(mtld_\w+)\{(\w+)="(\w+)"\}', rules)
    assert asked
    for name, label, value in asked:
        assert label in labels[name]
        assert value in values[label]


@pytest.mark.parametrize("alert", RULES)
def test_every_section_of_an_alert_says_what_to_look_at_and_when_it_clears(alert: str) -> None:
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    section = page.split(f"### {alert}\n")[1].split("\n###")[0].split("\n## ")[0]
    told = re.search(r"(?:^|`)(?:mtld|curl|nvidia-smi) |\]\(#", section, re.MULTILINE)
    assert told is not None, "neither a command nor a section that has one"
    assert "**Clears**" in section
