"""The sidecar as its users run it, in a process of its own, and how long its answers take."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
MTLD = [sys.executable, "-c", "import sys; from daemon.cli import main; sys.exit(main())"]


class SidecarProcess:
    """One sidecar on a state directory and a free port; leaves nothing behind."""

    def __init__(self, state: Path, **environment: str) -> None:
        self.state = state
        self.log = state.with_name(f"{state.name}.sidecar.log")
        self.began = monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*MTLD, "sidecar", "--state", str(state), "--listen", "127.0.0.1:0"],
                cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **environment},
            )  # fmt: skip
        self.url = wait_until(self._url, 30.0, "the sidecar to listen")

    def _url(self) -> str:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"http://[\d.]+:\d+", self.log.read_text())
        return found[0] if found else ""

    def get(self, path: str, timeout_s: float = 10.0) -> tuple[int, bytes]:
        """Status and body of one answer."""
        try:
            with urllib.request.urlopen(  # noqa: S310 - our own http:// address
                f"{self.url}{path}", timeout=timeout_s
            ) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def json(self, path: str) -> Any:
        """The body of one answer as JSON."""
        return json.loads(self.get(path)[1])

    def rss_bytes(self) -> int:
        """Memory that the process holds."""
        told = Path(f"/proc/{self.process.pid}/status").read_text("utf-8")
        return int(re.findall(r"VmRSS:\s+(\d+)", told)[0]) * 1024

    def stop(self) -> int:
        """SIGTERM, and wait for the end."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(10.0)

    def __enter__(self) -> SidecarProcess:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Probe:
    """Asks again and again, in threads beside whatever the trainer is made to do meanwhile."""

    def __init__(self, sidecar: SidecarProcess) -> None:
        self._sidecar = sidecar
        self.took_s: dict[str, list[float]] = {"/livez": [], "/metrics": [], "status": []}

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Ask for as long as the block takes, each at least five times."""
        done = threading.Event()
        wanted = {name: len(took) + 5 for name, took in self.took_s.items()}

        def ask(name: str) -> None:
            while not done.is_set() or len(self.took_s[name]) < wanted[name]:
                begin = monotonic()
                self._ask(name)
                self.took_s[name].append(monotonic() - begin)
                done.wait(0.02)

        threads = [threading.Thread(target=ask, args=(name,)) for name in self.took_s]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            for thread in threads:
                thread.join()

    def _ask(self, name: str) -> None:
        if name.startswith("/"):
            status, body = self._sidecar.get(name)
            assert body
            assert status in {200, 503}
            return
        words = ["status", "--state", str(self._sidecar.state), "-o", "json"]
        done = subprocess.run([*MTLD, *words], cwd=ROOT, capture_output=True, check=False)
        assert done.returncode in {0, 3}, done.stderr
