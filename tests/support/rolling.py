"""One daemon with something to roll back, kept on disk, so that every death begins from the very same state.

A place holds the state directory of a daemon that was paused and drained, and its log under a namespace of its own.
Paused, a daemon reads nothing, so a fail-point is reached by what is asked of it and by nothing else.
"""

from __future__ import annotations

import shutil
import signal
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daemon.errors import NotRunning
from daemon.sources.link import Keys
from tests.support import aof, stream
from tests.support.compare import Saved, saved
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import NAMESPACE, Server

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

# Without lingering the events alone decide what is learned; every snapshot may become champion, all checkpoints stay.
SETTINGS = (
    stream.SETTINGS.replace("linger_s = 0.15", "linger_s = 3600").replace("keep = 3", "keep = 50")
    + "[gate]\nmin_rows = 500\n[evaluate]\nevery_s = 0\n"
    + stream.TASKS
)


@dataclass(slots=True)
class Base:
    """The state that every death begins from: a good part, then more, paused and drained."""

    folder: Path
    server: Server = field(init=False)
    seq: int = 0  # the checkpoint after the good part
    skip: tuple[str, str] = ("", "")  # entries of the second part that a rollback leaves out
    last: str = ""  # the id of the last entry
    log: list[aof.Added] = field(default_factory=list[aof.Added])

    def __post_init__(self) -> None:
        self.server = Server(self.folder / "server", "valkey", *aof.KEEP_ALL)
        with DaemonProcess(self.state, self.server.url, SETTINGS) as daemon:
            daemon.start()
            daemon.wait_started()
            self._fill(daemon)
            daemon.ask("pause", reason="a test")
            assert daemon.drain() == 0, (
                daemon.tail()
            )  # nothing waits to leave: a start sends nothing
        self.log = aof.added(self.server.broker.directory, Keys.of(NAMESPACE).events)

    @property
    def state(self) -> Path:
        return self.folder / "base"

    def _fill(self, daemon: DaemonProcess) -> None:
        feed = stream.Feed(5)
        self._send(daemon, [*feed.chunk(0), *feed.chunk(1)])
        self.seq = int(daemon.ask("checkpoint")["seq"])
        ids = self._send(daemon, [*feed.chunk(2), *feed.chunk(3), *feed.last()])
        self.skip = (ids[13], ids[16])
        daemon.ask("checkpoint")

    def _send(self, daemon: DaemonProcess, events: Sequence[stream.Fields]) -> list[str]:
        ids = [stream.send(self.server.admin, [event]) for event in events]
        self.last = ids[-1]
        daemon.wait(lambda told: told.watermark == self.last and told.state == "idle")
        return ids

    @contextmanager
    def place(self, name: str) -> Generator[Place]:
        """A copy of the state with a copy of the log, what the server knows of both included."""
        shutil.copytree(
            self.state, self.folder / name, symlinks=True, ignore=shutil.ignore_patterns("*.sock")
        )
        aof.copy(self.server.admin, self.log, Keys.of(name).events)
        mark = self.server.admin.call("GET", Keys.of(NAMESPACE).sent)
        self.server.admin.call("SET", Keys.of(name).sent, mark)
        with DaemonProcess(self.folder / name, self.server.url, SETTINGS, name) as daemon:
            yield Place(self, daemon)

    def close(self) -> None:
        self.server.close()


@dataclass(slots=True)
class Place:
    """One daemon on a copy of the base."""

    base: Base
    daemon: DaemonProcess

    @property
    def models(self) -> Path:
        return self.daemon.state / "models"

    def start(self, failpoint: str = "") -> None:
        """Start, and wait until it answers."""
        self.daemon.start(failpoint)
        self.daemon.wait_started()

    def roll_back(self) -> dict[str, Any]:
        """Back to the good part, without what the base says is bad."""
        return self.daemon.ask("rollback", seq=self.base.seq, skips=[list(self.base.skip)])

    def dies(self, *asked: tuple[str, dict[str, Any]]) -> None:
        """Ask one thing after the other of a daemon that a fail-point kills before it has answered the last."""
        for name, args in asked:
            try:
                self.daemon.ask(name, **args)
            except NotRunning:
                break
        assert self.daemon.ended(30.0) == -signal.SIGKILL, self.daemon.tail()

    def epoch(self) -> int:
        """Of the state that a restart begins from."""
        return int(saved(self.daemon.state).header["epoch"])

    def finish(self) -> Saved:
        """Read on to the end of the log, drain, and read what was saved."""
        self.daemon.ask("resume")
        self.daemon.wait(lambda told: told.watermark == self.base.last and told.state == "idle")
        assert self.daemon.drain() == 0, self.daemon.tail()
        return saved(self.daemon.state)
