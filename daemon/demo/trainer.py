"""The processes of the demo: a server, and daemons that are started, killed, asked and stopped from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, cast

from daemon import client, vitals
from daemon.demo.report import Accounting
from daemon.errors import DaemonError, NotRunning, TimedOut

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.types import Json, Vitals

START_S = 60.0  # importing torch on a busy machine
WAIT_S = 120.0  # for a phase of the stream to be trained; it takes seconds
STOP_S = 30.0
LOOK_S = 0.05  # pause between two looks at a daemon


def start_server(directory: Path) -> tuple[subprocess.Popen[str], str]:
    """Start the embedded server as a process of its own; returns it and its URL."""
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon.broker", str(directory)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C must not end it before the daemons
    )
    assert process.stdout is not None  # noqa: S101 - we asked for a pipe
    url = process.stdout.readline().strip()
    if not url:
        raise DaemonError(f"the server in {directory} did not start; the lines above say why")
    return process, url


def stop(process: subprocess.Popen[Any]) -> None:
    """End a process as an operator would, and wait; SIGKILL when it does not end."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Trainer:
    """One daemon on one stream, seen only through what every operator has: signals, vitals, the control socket."""

    def __init__(self, home: Path, url: str, namespace: str, settings: Json) -> None:
        self.state = home / namespace
        self.namespace = namespace
        self.log = home / f"{namespace}.log"
        self._config = home / f"{namespace}.toml"
        self._process: subprocess.Popen[bytes] | None = None
        self.state.mkdir(parents=True, exist_ok=True)
        told = {"state_dir": str(self.state), "redis_url": url, "namespace": namespace, **settings}
        self._config.write_text(_toml(told), encoding="utf-8")

    def start(self) -> None:
        """Start the process; `await_reading` tells when it is up."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "daemon", "run", "--config", str(self._config)],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_reading(self) -> Vitals:
        """Wait until it reads its stream."""
        return self.wait(lambda seen: seen.state in {"idle", "training"}, START_S, "start")

    def kill(self) -> None:
        """SIGKILL: the process has no chance to write anything more."""
        assert self._process is not None, "kill before start"  # noqa: S101
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def drain(self) -> None:
        """SIGTERM: it checkpoints and exits; `stop` waits for that."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def stop(self) -> None:
        """Drain, and wait until it has."""
        if self._process is not None:
            stop(self._process)

    def vitals(self) -> Vitals | None:
        """How this very process said it was, or None before it said anything."""
        seen = vitals.read(self.state / vitals.NAME)
        return seen if seen and self._process and seen.pid == self._process.pid else None

    def accounting(self, sent: int) -> Accounting:
        """What the daemon says became of the rows that were sent."""
        seen = self.vitals()
        counters = seen.counters if seen else {}
        told = [
            int(counters.get(f"{name}_rows", 0))
            for name in ("trained", "held_out", "duplicate", "dead")
        ]
        return Accounting(sent, *told)

    def publish(self) -> Path:
        """Have the weights of this moment published; returns the snapshot's directory."""
        reply = client.call(self.state, "publish", {"by": "demo"}, timeout_s=WAIT_S)
        return Path(reply["snapshot"]["path"])

    def wait(self, done: Callable[[Vitals], bool], timeout_s: float, what: str) -> Vitals:
        """Look at the vitals until `done`; says where the log is when the process ends or time is up."""
        end = monotonic() + timeout_s
        while True:
            seen = self.vitals()
            if seen is not None and done(seen):
                return seen
            if self._process is None or self._process.poll() is not None:
                raise NotRunning(f"the daemon {self.namespace!r} ended; see {self.log}")
            if monotonic() > end:
                raise TimedOut(
                    f"the daemon {self.namespace!r} did not {what} in {timeout_s:g} s; see {self.log}"
                )
            sleep(LOOK_S)


def _toml(table: Json, where: str = "") -> str:
    """Settings as TOML; JSON's scalars and lists are TOML's too."""
    tables = {name: cast("Json", value) for name, value in table.items() if isinstance(value, dict)}
    plain = [f"{name} = {json.dumps(table[name])}" for name in table if name not in tables]
    parts = ["\n".join(plain)] if plain else []
    for name, inner in tables.items():
        path = f"{where}{name}"
        parts.append(f"[{path}]\n{_toml(inner, f'{path}.')}")
    return "\n\n".join(parts)
