"""The reader follows an alias: calls see one whole snapshot, a bad one never serves, and nothing is retried in a hurry."""

from __future__ import annotations

import gc
import json
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from mtl_engine import reader, snapshot
from mtl_engine.errors import StateError
from mtl_engine.reader import ModelReader
from tests.support.engines import WIDTH, engine, task
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE_ROW = np.zeros((1, WIDTH), np.float32)


def publish(models: Path, version: int, scale: float = 1.0) -> Path:
    """A snapshot whose one task answers its own version for every row; `scale` spoils its weights."""
    one = engine()
    one.add_task(task("number", classes=(version,)))
    one.add_task(task("size", "regression"))
    one.observe("number", ONE_ROW, [version])
    one.observe("size", ONE_ROW, [[1.0, 2.0]])
    tensors, tasks, manifest = one.stage_snapshot()
    path = models / f"v{version:06d}"
    with np.errstate(all="ignore"):
        spoilt = {
            name: value.detach() * (scale if value.is_floating_point() else 1)
            for name, value in tensors.items()
        }
    snapshot.write(
        path, spoilt if scale != 1.0 else tensors, tasks, {**manifest, "version": version}
    )
    return path


def point(models: Path, version: int, alias: str = "champion") -> None:
    """Swap the alias in one step, as the daemon does."""
    fresh = models / ".new"
    fresh.symlink_to(f"v{version:06d}")
    fresh.replace(models / alias)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for version in (1, 2, 3):
        publish(tmp_path, version)
    point(tmp_path, 1)
    return tmp_path


@pytest.fixture
def served(models: Path) -> Iterator[ModelReader]:
    with ModelReader(models) as one:
        yield one


def test_a_new_champion_serves_after_a_refresh_and_says_its_version(
    models: Path, served: ModelReader
) -> None:
    first = served.predict("number", ONE_ROW)
    assert (first.labels.tolist(), first.version) == ([1], "v000001")
    assert not served.refresh()
    point(models, 2)
    assert served.predict("number", ONE_ROW).version == "v000001"
    assert served.refresh()
    assert served.predict("number", ONE_ROW).labels.tolist() == [2]
    chances, labels, version = served.predict_proba("number", ONE_ROW)
    assert (chances.tolist(), labels, version) == ([[1.0]], [2], "v000002")


def test_another_alias_is_followed_and_an_unknown_one_is_refused(models: Path) -> None:
    point(models, 3, "latest")
    with ModelReader(models, "latest") as one:
        assert one.version == "v000003"
    with pytest.raises(StateError, match="previous is no alias of a snapshot"):
        ModelReader(models, "previous")


def _flip(models: Path) -> None:
    path = models / "v000002" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _forge(models: Path) -> None:
    """The right hash of the wrong tensors."""
    path = models / "v000002"
    (path / "model.safetensors").write_bytes((models / "odd" / "model.safetensors").read_bytes())
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["model.safetensors"] = json.loads(
        (models / "odd" / "manifest.json").read_text()
    )["files"]["model.safetensors"]
    (path / "manifest.json").write_text(json.dumps(manifest))


def _missing_tensor(models: Path) -> None:
    one = engine()
    one.add_task(task("number", classes=(2,)))
    one.observe("number", ONE_ROW, [2])
    tensors, tasks, manifest = one.stage_snapshot()
    snapshot.write(models / "odd", tensors, tasks, manifest)
    _forge(models)


def _not_finite(models: Path) -> None:
    for file in (models / "v000002").iterdir():
        file.unlink()
    (models / "v000002").rmdir()
    publish(models, 2, float("nan"))


def _gone(models: Path) -> None:
    (models / "v000002" / "tasks.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (_flip, "not the file that manifest.json describes"),
        (_missing_tensor, "tensors of the model differ: missing"),
        (_not_finite, "outputs of number are not finite"),
        (_gone, "is missing"),
    ],
)
def test_a_snapshot_that_cannot_be_loaded_leaves_the_old_one_serving_and_is_reported_once(
    models: Path, monkeypatch: pytest.MonkeyPatch, spoil: object, says: str
) -> None:
    assert callable(spoil)
    reported: list[str] = []
    with ModelReader(models, on_error=reported.append) as one:
        spoil(models)
        point(models, 2)
        loads = _counted(monkeypatch)
        for _ in range(50):
            assert not one.refresh()
        assert loads == ["v000002"]
        assert len(reported) == 1
        assert says in reported[0]
        assert "v000001 goes on serving" in one.last_error
        assert one.predict("number", ONE_ROW).labels.tolist() == [1]
        point(models, 3)
        assert one.refresh()
        assert (one.version, one.last_error) == ("v000003", "")


def _counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the snapshots that are loaded from now on."""
    found: list[str] = []
    load = snapshot.load

    def counting(path: Path) -> snapshot.SnapshotModel:
        found.append(path.name)
        return load(path)

    monkeypatch.setattr(reader.snapshot, "load", counting)
    return found


def test_a_snapshot_that_could_not_be_loaded_is_tried_again_after_a_while(
    models: Path, served: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = models / "v000002" / "tasks.json"
    kept = away.read_bytes()
    away.unlink()
    point(models, 2)
    assert not served.refresh()
    away.write_bytes(kept)
    assert not served.refresh()
    now = reader.monotonic()
    monkeypatch.setattr(reader, "monotonic", lambda: now + reader.RETRY_S)
    assert served.refresh()
    assert served.version == "v000002"


def test_an_alias_that_is_away_is_reported_once_and_followed_when_it_is_back(models: Path) -> None:
    reported: list[str] = []
    with ModelReader(models, on_error=reported.append) as one:
        (models / "champion").unlink()
        for _ in range(5):
            assert not one.refresh()
        assert len(reported) == 1
        point(models, 2)
        assert one.refresh()


def test_a_call_in_flight_ends_on_the_model_it_began_with(
    models: Path, served: ModelReader
) -> None:
    held = served.serving
    point(models, 2)
    assert served.refresh()
    assert held.model.predict("number", ONE_ROW).tolist() == [1]
    assert held.version == "v000001"
    assert served.predict("number", ONE_ROW).labels.tolist() == [2]


def test_the_old_model_is_kept_until_the_last_call_on_it_ends_and_no_longer(
    models: Path, served: ModelReader
) -> None:
    held = served.serving
    old = weakref.ref(held.model)
    point(models, 2)
    assert served.refresh()
    gc.collect()
    assert old() is not None
    del held
    gc.collect()
    assert old() is None


def test_callers_do_not_wait_while_another_thread_loads(
    models: Path, served: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    loading, go_on = threading.Event(), threading.Event()
    load = snapshot.load

    def slow(path: Path) -> snapshot.SnapshotModel:
        loading.set()
        assert go_on.wait(10)
        return load(path)

    monkeypatch.setattr(reader.snapshot, "load", slow)
    point(models, 2)
    thread = threading.Thread(target=served.refresh)
    thread.start()
    assert loading.wait(10)
    assert not served.refresh()
    assert served.predict("number", ONE_ROW).version == "v000001"
    go_on.set()
    thread.join()
    assert served.version == "v000002"


def test_with_an_interval_it_follows_by_itself_and_without_one_it_starts_no_thread(
    models: Path,
) -> None:
    before = threading.active_count()
    with ModelReader(models):
        assert threading.active_count() == before
    with ModelReader(models, poll_s=0.005) as one:
        point(models, 3)
        wait_until(lambda: one.version == "v000003")
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_many_threads_and_many_swaps_never_mix_two_models(models: Path) -> None:
    wrong: list[str] = []
    seen: set[str] = set()
    calls = 0
    stop = threading.Event()

    def call(one: ModelReader) -> None:
        nonlocal calls
        while not stop.is_set():
            answer = one.predict("number", ONE_ROW)
            if answer.version != f"v{answer.labels[0]:06d}":
                wrong.append(f"{answer}")
            seen.add(answer.version)
            calls += 1

    with ModelReader(models, poll_s=0.001) as one:
        threads = [threading.Thread(target=call, args=(one,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for swap in range(30):
            wanted = 1 + swap % 3
            point(models, wanted)
            wait_until(lambda wanted=wanted: one.version == f"v{wanted:06d}")
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert seen == {"v000001", "v000002", "v000003"}
    assert calls > 30
