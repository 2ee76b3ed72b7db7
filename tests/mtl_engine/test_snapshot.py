"""A snapshot is read with the engine and torch alone, and only if it is exactly what it says it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtl_engine import snapshot
from mtl_engine.errors import EngineError, StateError
from mtl_engine.types import KINDS
from tests.support.engines import WIDTH, engine, labels_of, task

ROOT = Path(__file__).resolve().parents[2]
X = np.random.default_rng(1).standard_normal((6, WIDTH)).astype(np.float32)
ALONE = """
import sys
class Nothing:
    def find_spec(self, name, *_):
        if name.split(".")[0] in {"daemon", "redis", "typer", "structlog", "apscheduler", "prometheus_client", "mtld"}:
            raise ImportError(f"{name} is not installed here")
sys.meta_path.insert(0, Nothing())
import json
import numpy as np
from mtl_engine import snapshot
from mtl_engine.reader import ModelReader
model = snapshot.load(sys.argv[1])
x = np.load(sys.argv[2])
followed = ModelReader(sys.argv[3])
assert followed.predict("regression", x).version == "v000001"
print(json.dumps({name: model.predict(name, x).tolist() for name in model.tasks}))
"""


def written(path: Path) -> Any:
    """An engine with a task of every kind, and its snapshot in `path`."""
    one = engine()
    for kind in KINDS:
        one.add_task(task(kind, kind))
        one.observe(kind, X, labels_of(kind, len(X)))
    one.snapshot(path)
    return one


def test_a_snapshot_loads_where_there_is_only_the_engine_and_torch(tmp_path: Path) -> None:
    one = written(tmp_path / "v000001")
    (tmp_path / "champion").symlink_to("v000001")
    np.save(tmp_path / "x.npy", X)
    words = [sys.executable, "-c", ALONE, tmp_path / "v000001", tmp_path / "x.npy", tmp_path]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {kind: one.predict(kind, X).tolist() for kind in KINDS}


def changed(tmp_path: Path, change: Any) -> Path:
    """A snapshot with other tensors or tasks, whose hashes are right."""
    tensors, tasks, manifest = written(tmp_path / "good").stage_snapshot()
    tensors = dict(tensors)
    tasks = json.loads(json.dumps(tasks))
    change(tensors, tasks)
    snapshot.write(tmp_path / "bad", tensors, tasks, manifest)
    return tmp_path / "bad"


HEAD = "model.heads.task:regression.weight"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors, _: tensors.pop(HEAD), "missing .'heads.task:regression.weight'"),
        (lambda tensors, _: tensors.update({"model.more": tensors[HEAD]}), "not expected .'more'"),
        (lambda tensors, _: tensors.update({HEAD: tensors[HEAD].T}), "this model needs"),
        (lambda tensors, _: tensors.update({HEAD: tensors[HEAD].double()}), "this model needs"),
        (lambda tensors, _: tensors.update(more=tensors[HEAD]), "belong to nothing"),
        (lambda tensors, _: tensors.pop("tasks.regression.stats_3C"), "stats_3C"),
        (
            lambda tensors, _: tensors.update({"tasks.regression.x": tensors[HEAD]}),
            "not expected .'regression.x'",
        ),
        (lambda _, tasks: tasks.pop("trunk"), "does not describe a model: KeyError"),
        (lambda _, tasks: tasks["registry"]["tasks"][0].update(table="x"), "its task does not"),
        (lambda _, tasks: tasks["trunk"].update(depth="2"), "depth of the trunk"),
        (lambda _, tasks: tasks["registry"]["tasks"][0]["spec"].update(kind="guess"), "guess"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_though_its_hash_is_right(
    tmp_path: Path, change: Any, says: str
) -> None:
    with pytest.raises(StateError, match=says):
        snapshot.load(changed(tmp_path, change))


def test_a_task_without_a_head_is_said_and_the_others_answer(tmp_path: Path) -> None:
    one = engine()
    for name in ("a", "b"):
        one.add_task(task(name))
    one.observe("a", X, labels_of("classification", len(X)))
    one.observe("b", X)
    one.snapshot(tmp_path / "s")
    model = snapshot.load(tmp_path / "s")
    with pytest.raises(EngineError, match="b has no head yet"):
        model.predict("b", X)
    assert model.predict("a", X).tolist() == one.predict("a", X).tolist()
