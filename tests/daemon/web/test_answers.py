"""Answers made from files: published snapshots with their verdicts, and aliases as metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon import releases
from daemon.samples import MAX_TASKS, Gpu
from daemon.web.answers import Answers
from daemon.web.history import History
from tests.support.scorecards import CONFUSED, SHIRTS, card, of_number

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def answers(tmp_path: Path) -> Answers:
    history = History(tmp_path / "history.jsonl", pytest.fail)
    return Answers(tmp_path, history, lambda: [Gpu(1, temperature_celsius=61.0)])


def told(answers: Answers, path: str) -> Any:
    answer = answers.to(path)
    assert answer is not None
    return answer.body.decode() if path == "/metrics" else json.loads(answer.body)


def publish(models: Path, number: int, **said: Any) -> None:
    directory = models / releases.directory_name(number)
    directory.mkdir(parents=True)
    (directory / releases.MANIFEST).write_text(json.dumps({"files": {}, **said}))


def test_snapshots_are_listed_newest_first_with_what_their_manifests_say(
    tmp_path: Path, answers: Answers
) -> None:
    models = tmp_path / "models"
    assert told(answers, "/api/releases") == []
    verdict = {"promoted": True}
    publish(models, 1, at="then", step=5, scores={"a": {"accuracy": 0.5}}, verdict=verdict)
    publish(models, 2, at="later", step=9)
    (models / "v000003").mkdir()
    releases.point(models, "champion", "v000001")
    newest, second, first = told(answers, "/api/releases")
    assert (newest["version"], newest["verdict"]) == (3, None)
    assert "manifest.json" in newest["error"]
    assert (second["version"], second["aliases"], second["verdict"]) == (2, [], None)
    assert first == {
        "version": 1, "path": str(models / "v000001"), "aliases": ["champion"], "at": "then", "step": 5,
        "scores": {"a": {"accuracy": 0.5}}, "verdict": verdict, "bytes": 0,
    }  # fmt: skip


def test_a_scorecard_is_that_of_the_newest_snapshot_and_of_the_first_task_unless_one_is_named(
    tmp_path: Path, answers: Answers
) -> None:
    models, path = tmp_path / "models", "/api/scorecard"
    assert told(answers, path) == {
        "version": None, "at": None, "step": None, "tasks": [], "task": None, "card": None, "probabilities": None,
    }  # fmt: skip
    cards = {"a b": card(SHIRTS, CONFUSED), "price": of_number()}
    probable = {"a b": {"decision": "prior", "ece": {"value": 0.02, "interval": [0.01, 0.03]}}}
    for version in (1, 2):
        publish(models, version, version=version, step=5, scorecards=cards, probabilities=probable)
        releases.point(models, "latest", f"v00000{version}")
        first = told(answers, path)
        assert (first["version"], first["task"], first["tasks"]) == (version, "a b", list(cards))
        assert (first["card"], first["probabilities"]) == (cards["a b"], probable["a b"])
    named = answers.to(path, "task=price")
    assert named is not None
    assert json.loads(named.body)["card"] == cards["price"]
    spaced = answers.to(path, "task=a%20b")
    assert spaced is not None
    assert json.loads(spaced.body)["task"] == "a b"


def test_a_scorecard_that_there_is_not_is_not_found(tmp_path: Path, answers: Answers) -> None:
    models = tmp_path / "models"
    publish(models, 1, scorecards={"a": of_number()})
    releases.point(models, "latest", "v000001")
    answer = answers.to("/api/scorecard", "task=b")
    assert answer is not None
    assert answer.status == 404
    assert json.loads(answer.body)["error"] == "no scorecard of 'b' in v000001"
    (models / "v000002").mkdir()  # without a manifest
    releases.point(models, "latest", "v000002")
    broken = answers.to("/api/scorecard")
    assert broken is not None
    assert broken.status == 404
    assert "manifest.json" in json.loads(broken.body)["error"]


def test_the_error_of_probabilities_is_a_metric_of_so_many_tasks(
    tmp_path: Path, answers: Answers
) -> None:
    probable = {f"t{number}": {"ece": {"value": number / 1000}} for number in range(MAX_TASKS + 3)}
    probable["t1"] = {"ece": {"value": None, "interval": None}}
    publish(tmp_path / "models", 1, probabilities=probable)
    assert "mtld_ece{" not in told(answers, "/metrics")
    releases.point(tmp_path / "models", "latest", "v000001")
    lines = [line for line in told(answers, "/metrics").splitlines() if line.startswith("mtld_ece{")]  # fmt: skip
    assert 'mtld_ece{task="t2"} 0.002' in lines
    assert 'mtld_ece{task="other"} 0.052' in lines
    assert len(lines) <= MAX_TASKS + 1


def test_aliases_gpus_and_the_disk_are_metrics_without_a_daemon(
    tmp_path: Path, answers: Answers
) -> None:
    publish(tmp_path / "models", 7)
    releases.point(tmp_path / "models", "latest", "v000007")
    lines = told(answers, "/metrics").splitlines()
    assert 'mtld_snapshot_version{alias="latest"} 7.0' in lines
    assert 'mtld_gpu_temperature_celsius{gpu="1"} 61.0' in lines
    assert not any("gpu_power" in line for line in lines)
    assert any(line.startswith("mtld_disk_free_bytes ") for line in lines)


def test_health_tells_both_probes_with_their_reasons(answers: Answers) -> None:
    found = told(answers, "/healthz")
    assert (found["live"], found["ready"]) == (False, False)
    assert "vitals" in found["not_live"]
