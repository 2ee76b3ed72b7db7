"""The daemon as its users run it: `python -m daemon run` in a process of its own, watched by what it writes."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon import client, vitals
from daemon.sources.link import Keys
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.sources.link import Link
    from daemon.types import Json, Vitals

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0  # importing torch takes 2 s on an idle machine and far longer on a crowded one
PR_SET_PDEATHSIG = 1  # linux/prctl.h
_prctl = ctypes.CDLL(None).prctl


def _die_with_the_test() -> None:
    """Runs in the child before exec: a test run that is aborted leaves no daemon behind."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class DaemonProcess:
    """One daemon on one state directory; it may be started, killed and started again."""

    def __init__(self, state: Path, url: str, settings: str, namespace: str = "test") -> None:
        self.state = state
        self.url = url
        self.namespace = namespace
        self.program = [sys.executable, "-m", "daemon"]
        self.process: subprocess.Popen[bytes] | None = None
        state.mkdir(parents=True, exist_ok=True)
        self.log = state.with_name(f"{state.name}.log")
        self.settings = state.with_name(f"{state.name}.toml")
        self.settings.write_text(settings)

    # -- life ----------------------------------------------------------------------------------------------

    def start(self, failpoint: str = "", *flags: str) -> None:
        """Start the process and return at once."""
        assert self.process is None or self.process.poll() is not None, "it still runs"
        words = ["run", "--state", str(self.state), "--redis-url", self.url]
        words += ["--namespace", self.namespace, "--config", str(self.settings), "-o", "json"]
        environment = {**os.environ, "MTLD_FAILPOINT": failpoint, "OMP_NUM_THREADS": "2"}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, *words, *flags],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_the_test,
            )

    @property
    def pid(self) -> int:
        assert self.process is not None, "it was never started"
        return self.process.pid

    @property
    def returncode(self) -> int | None:
        """What it ended with, None while it runs."""
        assert self.process is not None, "it was never started"
        return self.process.poll()

    def ended(self, timeout_s: float = START_S) -> int:
        """Wait for the end; returns the exit code, negative for a signal."""
        assert self.process is not None, "it was never started"
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end within {timeout_s:g} s\n{self.tail()}") from None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; one that has ended already takes none."""
        if self.returncode is None:
            assert self.process is not None
            self.process.send_signal(number)

    def kill(self) -> int:
        """SIGKILL, and wait for it to be gone."""
        self.signal(signal.SIGKILL)
        return self.ended()

    def drain(self) -> int:
        """SIGTERM, and wait for the end."""
        self.signal(signal.SIGTERM)
        return self.ended()

    def close(self) -> None:
        """Leave nothing behind, whatever the test did."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> DaemonProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- what it says ----------------------------------------------------------------------------------------

    def vitals(self) -> Vitals | None:
        """What the loop of this very process last wrote of itself, None before the first time."""
        found = vitals.read(self.state / vitals.NAME)
        is_ours = found is not None and found.pid == self.pid and found.busy != "loading"
        return found if is_ours else None

    def wait(
        self, condition: Callable[[Vitals], Any], timeout_s: float = START_S, what: str = ""
    ) -> Vitals:
        """Wait until its vitals fulfil a condition; an early end is an error."""

        def look() -> Vitals | None:
            if self.returncode is not None:
                raise AssertionError(f"it ended with {self.returncode}\n{self.tail()}")
            found = self.vitals()
            return found if found is not None and condition(found) else None

        try:
            found = wait_until(look, timeout_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\nvitals: {self.vitals()}\n{self.tail()}") from None
        assert found is not None
        return found

    def catches(self, number: signal.Signals) -> bool:
        """Whether a signal would no longer just end it: it is caught or waits (proc(5))."""
        told = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{self.pid}/status").read_text("utf-8").splitlines()
        )
        masks = int(told["SigCgt"], 16) | int(told["SigBlk"], 16)
        return bool(masks >> (number - 1) & 1)

    def is_up_or_ended(self) -> bool:
        """Whether it has begun to work, or has ended before."""
        return self.returncode is not None or self.vitals() is not None

    def wait_started(self) -> Vitals:
        """Wait for the first vitals."""
        return self.wait(lambda _: True, what="the first vitals")

    def wait_caught_up(self, link: Link, timeout_s: float = START_S) -> Vitals:
        """Wait until everything in the log is applied and trained, what it appends itself included."""
        events = Keys.of(self.namespace).events

        def is_there(told: Vitals) -> bool:
            (newest,) = link.call("XREVRANGE", events, "+", "-", "COUNT", 1) or [(b"0-0",)]
            return (
                told.watermark == newest[0].decode()
                and told.state == "idle"
                and not told.pending_rows
            )

        return self.wait(is_there, timeout_s, "everything in the log")

    def ask(self, name: str, /, timeout_s: float = 30.0, **args: Any) -> Json:
        """One command over the control socket."""
        return client.call(self.state, name, args, timeout_s)

    def tail(self, num_bytes: int = 3000) -> str:
        """The end of its log."""
        return self.log.read_text("utf-8", "replace")[-num_bytes:] if self.log.exists() else ""

    def durable(self) -> Json | None:
        """The manifest of its newest checkpoint, None before the first."""
        root = self.state / "checkpoints"
        if not (root / "CURRENT").exists():
            return None
        seq = json.loads((root / "CURRENT").read_bytes())["seq"]
        return json.loads((root / f"{seq:06d}" / "manifest.json").read_bytes())
