"""What `mtld predict` becomes: rows from files and pipes, answers of one snapshot with its version on each."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon import releases
from daemon.errors import DaemonError
from daemon.predict import predict
from tests.support.snapshots import WORDS, X, publish

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    models = tmp_path_factory.mktemp("state") / "models"
    one = publish(models, 7)
    releases.point(models, "champion", "v000007")
    return models / "v000007", one


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def run(published: tuple[Path, Any], source: Path, to: Path, task: str, **more: Any) -> None:
    options = {"rows": 3, "proba": False, "as_json": True, **more}
    predict(str(source), task, str(published[0]), str(to), **options)


def read(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_answered_in_order_with_their_own_ids(
    published: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"text": word, "id": f"r{k}"} if k % 2 else {"x": word} for k, word in enumerate(WORDS)]
    source = jsonl(tmp_path / "in.jsonl", rows)
    run(published, source, tmp_path / "out.jsonl", "sky", proba=True)
    found = read(tmp_path / "out.jsonl")
    assert [one["row"] for one in found] == [0, 1, 2, 3]
    assert [one.get("id") for one in found] == [None, "r1", None, "r3"]
    assert [one["prediction"] for one in found] == published[1].predict("sky", WORDS).tolist()
    assert {one["version"] for one in found} == {"v000007"}
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1)
    assert found[0]["probabilities"].keys() == {"wet", "dry"}
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["version"]) == (4, "v000007")


@pytest.mark.parametrize("task", ["size", "tags"])
def test_an_npz_is_answered_by_an_npz(
    published: tuple[Path, Any], tmp_path: Path, task: str
) -> None:
    np.savez(tmp_path / "in.npz", x=X, id=np.arange(len(X)) * 10)
    run(published, tmp_path / "in.npz", tmp_path / "out.npz", task, proba=task == "tags")
    with np.load(tmp_path / "out.npz", allow_pickle=False) as found:
        # Other row counts in a call may sum in another order.
        np.testing.assert_allclose(found["prediction"], published[1].predict(task, X), rtol=1e-6)
        assert found["version"].tolist() == ["v000007"] * len(X)
        assert found["id"].tolist() == [10 * k for k in range(len(X))]
        if task == "tags":
            chances = published[1].predict_proba(task, X)
            np.testing.assert_allclose(found["probabilities"], chances, atol=1e-6)


def test_lines_may_become_an_npz_and_the_other_way_round(
    published: tuple[Path, Any], tmp_path: Path
) -> None:
    source = jsonl(tmp_path / "in.jsonl", [{"x": word} for word in WORDS])
    run(published, source, tmp_path / "out.npz", "sky", proba=True)
    with np.load(tmp_path / "out.npz") as found:
        assert found["prediction"].tolist() == published[1].predict("sky", WORDS).tolist()
        assert found["labels"].tolist() == ["wet", "dry"]
    np.savez(tmp_path / "texts.npz", x=np.array(WORDS))
    run(published, tmp_path / "texts.npz", tmp_path / "out.jsonl", "sky")
    assert len(read(tmp_path / "out.jsonl")) == len(WORDS)


@pytest.mark.parametrize(
    ("rows", "task", "says", "code"),
    [
        ([{"y": 1}], "sky", "line 1: not a row", 1),
        ([{"x": "a"}, 3], "sky", "line 2: not a row", 1),
        ([{"x": "a"}] * 3 + [{"x": 5}], "sky", "rows 3 to 3: x of sky", 1),
        ([{"x": "a"}], "sly", "did you mean 'sky'", 2),
        ([{"x": "a", "id": {"a": 1}}], "sky", "all numbers or all strings", 1),
    ],
)
def test_what_cannot_be_answered_is_said_with_its_place_and_leaves_no_file(
    published: tuple[Path, Any], tmp_path: Path, rows: list[Any], task: str, says: str, code: int
) -> None:
    source = jsonl(tmp_path / "in.jsonl", rows)
    with pytest.raises(DaemonError, match=says) as caught:
        run(published, source, tmp_path / "out.npz", task)
    assert caught.value.exit_code == code
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_regression_has_no_probabilities(published: tuple[Path, Any], tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="leave --proba out"):
        run(published, tmp_path / "in", tmp_path / "out.npz", "size", proba=True)


def test_a_pickle_in_an_npz_is_not_read(published: tuple[Path, Any], tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", x=np.array([{"a": 1}], object))
    with pytest.raises(DaemonError, match="cannot be read"):
        run(published, tmp_path / "in.npz", tmp_path / "out.npz", "sky")
    np.savez(tmp_path / "in.npz", y=X)
    with pytest.raises(DaemonError, match="has no rows"):
        run(published, tmp_path / "in.npz", tmp_path / "out.npz", "sky")


def test_a_damaged_snapshot_exits_8(tmp_path: Path) -> None:
    publish(tmp_path, 1, steps=1)
    (tmp_path / "v000001" / "model.safetensors").write_bytes(b"")
    with pytest.raises(DaemonError) as caught:
        predict("-", "sky", str(tmp_path / "v000001"), None, 1, False, False)
    assert caught.value.exit_code == 8


def mtld(models: Path, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """The console command in a process of its own, as in a pipe."""
    code = "import sys; from daemon.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words, "--state", str(models.parent)]
    return subprocess.run(command, input=stdin, capture_output=True, cwd=ROOT)


def test_the_verb_works_in_a_pipe_and_is_pinned_to_what_the_alias_named(
    published: tuple[Path, Any],
) -> None:
    models = published[0].parent
    stdin = "".join(f"{json.dumps({'text': word})}\n" for word in WORDS).encode()
    done = mtld(models, "predict", "-t", "sky", stdin=stdin)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["prediction"] for one in found] == published[1].predict("sky", WORDS).tolist()
    assert found[0]["version"] == "v000007"
    archive = io.BytesIO()
    np.savez(archive, x=X)
    done = mtld(models, "predict", "-t", "size", "-m", "7", stdin=archive.getvalue())
    assert done.returncode == 0, done.stderr
    with np.load(io.BytesIO(done.stdout)) as answer:
        np.testing.assert_array_equal(answer["prediction"], published[1].predict("size", X))
    wrong = mtld(models, "predict", "-t", "sky", stdin=b"nothing\n")
    assert (wrong.returncode, wrong.stdout) == (1, b"")
    assert wrong.stderr.startswith(b"mtld: line 1: not a row")
