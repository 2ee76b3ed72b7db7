"""A server, a daemon on it and the sidecar beside it: what tests that play an operator's day share."""

from __future__ import annotations

import json
import subprocess
from contextlib import ExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mtld import Producer
from tests.support.daemon_process import START_S, DaemonProcess
from tests.support.servers import NAMESPACE, Server
from tests.support.sidecar_process import MTLD, ROOT, SidecarProcess

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from daemon.types import Json, Vitals


class Site:
    """What runs, in processes of its own; all of it ends with the block."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        self._running = ExitStack()
        self.server = Server(folder / "server", "valkey")
        self._running.callback(self.server.close)
        self.daemon = self._running.enter_context(
            DaemonProcess(folder / "state", self.server.url, settings)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def start(self) -> None:
        """Start the daemon and wait for its first vitals."""
        self.daemon.start()
        self.daemon.wait_started()

    @cached_property
    def sidecar(self) -> SidecarProcess:
        """It is started when it is first asked for."""
        return self._running.enter_context(SidecarProcess(self.daemon.state))

    def producer(self, name: str) -> Producer:
        """A sender of this name."""
        made = Producer(self.server.url, NAMESPACE, name)
        self._running.callback(made.close)
        return made

    def wait_caught_up(self, timeout_s: float = START_S) -> None:
        """Wait until everything that was sent is learned."""
        self.daemon.wait_caught_up(self.server.admin, timeout_s)

    # -- what it says ----------------------------------------------------------------------------------------

    def mtld(self, *words: str) -> tuple[int, str]:
        """Exit code and output of a verb."""
        done = self._run(*words)
        return done.returncode, done.stdout

    def does(self, *words: str) -> str:
        """What a verb that succeeds prints."""
        done = self._run(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def told(self, *words: str) -> Any:
        """The JSON of a verb that succeeds."""
        return json.loads(self.does(*words, "-o", "json"))

    def _run(self, *words: str) -> subprocess.CompletedProcess[str]:
        where = ("--state", str(self.daemon.state))
        return subprocess.run([*MTLD, *words, *where], cwd=ROOT, capture_output=True, text=True)

    def status(self) -> Json:
        """What `mtld status` says."""
        return self.told("status")

    def vitals(self) -> Vitals:
        """What the daemon wrote of itself."""
        told = self.daemon.vitals()
        assert told is not None, self.daemon.tail()
        return told

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics by its name and labels."""
        lines = self.sidecar.get("/metrics")[1].decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}
