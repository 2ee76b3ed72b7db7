"""A server and a daemon as real processes, for benchmarks that measure the whole product."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

import numpy as np

from daemon import client, vitals
from daemon.broker import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from daemon.types import Json


class RunningDaemon:
    """One daemon process on its own state directory."""

    def __init__(self, state: Path, url: str, settings: str) -> None:
        self.state = state
        self.url = url
        state.mkdir(parents=True, exist_ok=True)
        (state / "mtld.toml").write_text(settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *flags: str) -> float:
        """Start the process; returns the moment (monotonic, s) at which it was started."""
        words = ["run", "--state", str(self.state), "--redis-url", self.url, "-o", "json"]
        words += ["--config", str(self.state / "mtld.toml"), *flags]
        log = (self.state / "daemon.log").open("ab")
        begin = monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "daemon", *words], stdout=log, stderr=log, env={**os.environ}
        )
        log.close()
        return begin

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ask(self, name: str, **args: Any) -> Json:
        return client.call(self.state, name, args, timeout_s=60.0)

    def vitals(self) -> Json:
        """What the daemon last wrote of itself; empty before the first time."""
        found = vitals.read(self.state / vitals.NAME)
        if found is None or self._process is None or found.pid != self._process.pid:
            return {}
        if found.busy == "loading":
            return {}
        return {name: getattr(found, name) for name in found.__slots__}

    def wait(self, condition: Any, timeout_s: float = 120.0, poll_s: float = 0.005) -> Json:
        """Poll the vitals until `condition(vitals)` holds; where speed is measured, poll seldom."""
        until = monotonic() + timeout_s
        while monotonic() < until:
            found = self.vitals()
            if found and condition(found):
                return found
            if self._process is not None and self._process.poll() is not None:
                tail = (self.state / "daemon.log").read_text()[-2000:]
                raise RuntimeError(f"the daemon ended with {self._process.returncode}:\n{tail}")
            sleep(poll_s)
        raise TimeoutError(f"not reached in {timeout_s} s; last vitals: {self.vitals()}")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def stop(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """An embedded server; yields its URL."""
    broker = EmbeddedBroker(directory)
    broker.start()
    try:
        yield broker.url
    finally:
        broker.stop()


def images(num_rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the shape and size of 28x28 grey images in 10 separable classes; enough for measuring speed."""
    draw = np.random.Generator(np.random.PCG64(seed))
    y = draw.integers(0, 10, num_rows)
    x = draw.integers(0, 64, (num_rows, 28, 28), dtype=np.uint8)
    x[np.arange(num_rows), y * 2, :] = 255
    return x, y.astype(np.int64)
