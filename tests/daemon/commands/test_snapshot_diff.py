"""`mtld snapshot diff`: what changed between two published models, read without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from daemon import releases
from daemon.commands.snapshot_diff import change
from tests.daemon.commands.conftest import Mtld
from tests.support.snapshots import publish

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def models(state: Path) -> Path:
    publish(state / "models", 1, steps=3)
    publish(state / "models", 2, steps=20, labels=("wet", "dry", "icy"))
    return state / "models"


def test_tasks_labels_scores_and_tensors_are_compared(mtld: Mtld) -> None:
    found = mtld("snapshot", "diff", "-o", "json").json
    assert (found["a"]["name"], found["b"]["name"]) == ("v000001", "v000002")
    assert (found["a"]["step"], found["b"]["step"]) == (9, 60)
    sky = found["tasks"]["sky"]
    assert (sky["labels_added"], sky["labels_removed"]) == (["icy"], [])
    assert sky["columns"] == [2, 3]
    assert sky["scores"]["accuracy"][1] == 1.0
    tensors = {one["name"]: one for one in found["tensors"]}
    head = tensors["model.heads.task:sky.weight"]
    assert head["shape"] == [[2, 16], [3, 16]]
    assert head["bytes"] == [128, 192]
    assert head["change"] > 0
    assert found["tensors"] == sorted(found["tensors"], key=lambda one: -(one["change"] or 0))


def test_the_table_fits_the_screen_and_says_what_moved_most(mtld: Mtld) -> None:
    out = mtld("snapshot", "diff", "1", "2").out
    assert max(map(len, out.splitlines())) <= 80
    assert "A v000001: step 9" in out
    assert "+1 -0" in out
    assert "2x16 -> 3x16" in out


def test_a_snapshot_does_not_differ_from_itself(mtld: Mtld, models: Path) -> None:
    assert mtld("snapshot", "diff", "latest", "latest").out.endswith("both hold the same files\n")
    found = mtld("snapshot", "diff", "2", f"{models}/v000002", "-o", "json").json
    assert found["same_content"]
    assert {one["change"] for one in found["tensors"]} == {0.0}


def test_a_task_that_only_one_has_is_said(mtld: Mtld, models: Path) -> None:
    import json

    path = models / "v000002" / "tasks.json"
    said = json.loads(path.read_text())
    said["registry"]["tasks"] = [
        t for t in said["registry"]["tasks"] if t["spec"]["name"] != "tags"
    ]
    path.write_text(json.dumps(said))
    assert "tags (only A)" in mtld("snapshot", "diff").out


@pytest.mark.parametrize("name", ["tasks.json", "model.safetensors"])
def test_a_damaged_file_exits_8(mtld: Mtld, models: Path, name: str) -> None:
    (models / "v000001" / name).write_bytes(b"{}")
    result = mtld("snapshot", "diff")
    assert (result.code, result.out) == (8, "")
    assert result.err.count("\n") == 1


def test_a_path_that_is_no_snapshot_is_refused(mtld: Mtld, models: Path) -> None:
    assert mtld("snapshot", "diff", f"{models}/none", "latest").code == 7


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ([3.0, 4.0], [3.0, 4.0], 0.0),
        ([3.0, 4.0], [3.0, 9.0], 1.0),
        ([[3.0, 4.0]], [[3.0, 4.0], [7.0, 7.0]], 0.0),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([0.0, 0.0], [1.0, 0.0], None),
        ([[1.0]], [[1.0, 2.0]], None),
        ([1.0], [float("nan")], None),
    ],
)
def test_the_change_is_relative_to_the_length_before(
    old: list[float], new: list[float], expected: float | None
) -> None:
    assert change(np.array(old, np.float32), np.array(new, np.float32)) == expected


def test_comparing_loads_neither_torch_nor_the_engine(models: Path) -> None:
    code = (
        "import sys; from daemon.commands.snapshot_diff import compare; from pathlib import Path;"
        f"compare(Path('{models}/v000001'), Path('{models}/v000002'));"
        "sys.exit('torch' in sys.modules or 'mtl_engine' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
    assert releases.target(models, "latest") == "v000002"
