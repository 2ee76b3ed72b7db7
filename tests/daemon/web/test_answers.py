"""Answers made from files: published snapshots with their verdicts, and aliases as metrics."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon import releases
from daemon.samples import Gpu
from daemon.web.answers import Answers
from daemon.web.history import History

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


def publish(models: Path, version: int, **said: Any) -> None:
    directory = models / releases.directory_name(version)
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
