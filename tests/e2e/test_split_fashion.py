"""The whole Split-Fashion-MNIST stream through the daemon: the weights of the engine alone, and what they are worth."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from daemon.producer import Producer
from mtl_engine.engine import Engine
from mtl_engine.snapshot import load
from mtl_engine.types import TaskSpec
from tests.support.compare import saved
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import NAMESPACE, Server

if TYPE_CHECKING:
    from collections.abc import Generator

FILES = Path("/usr/share/datasets/fashion-mnist")
PHASES = 5
EVENT_ROWS = 100  # does not divide by the batch: most batches span two events
BATCH_ROWS = 32
ENGINE = {"strategy": "default", "trunk": {"width": 256, "depth": 2, "norm": "none"}, "seed": 3}
SETTINGS = """
[engine]
strategy = "default"
seed = 3
trunk = { width = 256, depth = 2, norm = "none" }
[stream]
batch_size = 32
linger_s = 3600
teacher_every = 1000000
"""
SPEC = TaskSpec(name="fashion", modality="image", holdout=0.0)
BAR = 78.0  # percent, average accuracy over the five phases' test images

pytestmark = [pytest.mark.apt, pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(300)]


def images(split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a split."""
    if not FILES.exists():
        pytest.skip(f"{FILES} is missing: apt install dataset-fashion-mnist")

    def content(name: str, header: int) -> np.ndarray:
        packed = (FILES / f"{split}-{name}.gz").read_bytes()
        return np.frombuffer(gzip.decompress(packed), np.uint8, offset=header)

    x = content("images-idx3-ubyte", 16).reshape(-1, 28, 28)
    return x, content("labels-idx1-ubyte", 8).astype(np.int64)


def phases(x: np.ndarray, y: np.ndarray) -> Generator[tuple[np.ndarray, np.ndarray]]:
    """Two classes after the other two, in the order of the file."""
    for number in range(PHASES):
        here = y // 2 == number
        yield x[here], y[here]


def through_the_daemon(folder: Path) -> Path:
    """Stream everything; returns the state directory of the drained daemon."""
    server = Server(folder / "server", "valkey")
    try:
        with (
            DaemonProcess(folder / "state", server.url, SETTINGS) as daemon,
            Producer(server.url, NAMESPACE) as producer,
        ):
            daemon.start()
            spec = SPEC.to_dict()
            producer.add_task(spec.pop("name"), **spec)
            for number, (x, y) in enumerate(phases(*images("train"))):
                for start in range(0, len(x), EVENT_ROWS):
                    rows = slice(start, start + EVENT_ROWS)
                    producer.push("fashion", x[rows], y[rows])
                producer.switch("fashion", phase=f"after {number}")
            producer.flush()
            daemon.wait_caught_up(server.admin, 240.0)
            assert daemon.drain() == 0, daemon.tail()
    finally:
        server.close()
    return folder / "state"


def in_this_process() -> Engine:
    """The same rows, batches and switches without a daemon."""
    engine = Engine(**ENGINE, teacher_every=1_000_000)
    engine.add_task(SPEC)
    for number, (x, y) in enumerate(phases(*images("train"))):
        for start in range(0, len(x), BATCH_ROWS):
            engine.observe("fashion", x[start : start + BATCH_ROWS], y[start : start + BATCH_ROWS])
        engine.switch_task("fashion", phase=f"after {number}")
    return engine


def test_the_daemon_learns_what_the_engine_alone_learns_and_reaches_the_bar(tmp_path: Path) -> None:
    state = through_the_daemon(tmp_path)
    alone = in_this_process().state_dict().tensors
    found = saved(state)
    names = [name for name in alone if name.startswith(("model.", "optim.", "average."))]
    assert len(names) >= 6
    for name in names:
        durable = found.tensors[f"state:engine/{name}"]
        assert durable.tobytes() == alone[name].numpy().tobytes(), f"{name} differs"

    model = load(state / "models" / "latest")
    scores = [
        100 * float(np.mean(np.asarray(model.predict("fashion", x)) == y))
        for x, y in phases(*images("t10k"))
    ]
    print({"average_accuracy": round(float(np.mean(scores)), 2), "phases": np.round(scores, 1)})  # noqa: T201
    assert np.mean(scores) >= BAR, scores
    assert found.counters["trained_rows"] == 60_000
