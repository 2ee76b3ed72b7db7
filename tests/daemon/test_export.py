"""What `mtld snapshot export` becomes: graphs beside the snapshot, and a line for each task."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon import releases
from daemon.errors import DaemonError
from daemon.export import export
from tests.daemon.test_predict import mtld
from tests.support.snapshots import publish


@pytest.fixture
def models(tmp_path: Path) -> Path:
    publish(tmp_path / "models", 3, steps=2)
    return tmp_path / "models"


def test_the_verb_writes_beside_the_snapshot_and_the_snapshot_stays_whole(models: Path) -> None:
    words = ("snapshot", "export", "latest", "--format", "torch-export", "--task", "size")
    done = mtld(models, *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert max(map(len, lines[2:])) <= 80
    assert lines[-1].split()[:2] == ["size", "size.pt2"]
    path = models / "v000003" / "exports" / "torch-export"
    manifest = json.loads((path / "manifest.json").read_text())
    assert manifest["snapshot"]["version"] == 3
    assert manifest["tasks"]["size"]["max_error"] <= manifest["tasks"]["size"]["tolerance"]
    assert releases.problems(models / "v000003") == []
    again = mtld(models, *words)
    assert again.returncode == 7
    assert b"exists; remove it" in again.stderr


def test_the_manifest_is_the_answer_in_json(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "out"
    export(str(models / "v000003"), "torch-export", ["tags"], str(to), None, as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told.pop("path") == str(to)
    assert told == json.loads((to / "manifest.json").read_text())


def test_an_unknown_task_and_a_damaged_snapshot_are_one_error_each(
    models: Path, tmp_path: Path
) -> None:
    source, to = models / "v000003", str(tmp_path / "out")
    with pytest.raises(DaemonError, match="did you mean 'sky'"):
        export(str(source), "torch-export", ["sly"], to, None, as_json=False)
    (source / "tasks.json").unlink()
    with pytest.raises(DaemonError) as caught:
        export(str(source), "torch-export", None, to, None, as_json=False)
    assert caught.value.exit_code == 8
