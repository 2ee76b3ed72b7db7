"""A real sidecar and a real Prometheus for tests: processes on loopback ports of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.support.daemon_process import ROOT
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMETHEUS = Path("/usr/bin/prometheus")
SCRAPE_S = 1


def get(url: str, timeout_s: float = 5.0) -> str:
    """The body of a page on this machine."""
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url, timeout=timeout_s) as reply:  # noqa: S310 - see above
        return reply.read().decode()


def answers(url: str) -> bool:
    try:
        get(url)
    except OSError:
        return False
    return True


@contextmanager
def process(log: Path, *words: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block."""
    with (
        log.open("wb") as output,
        subprocess.Popen(words, cwd=ROOT, stdout=output, stderr=output, env=os.environ) as one,
    ):
        try:
            yield one
        finally:
            one.terminate()


@contextmanager
def sidecar(folder: Path, state: Path, port: int) -> Iterator[str]:
    """`mtld sidecar` on a state directory; gives its address."""
    words = ("sidecar", "--listen", f"127.0.0.1:{port}", "--state", str(state))
    with process(folder / "sidecar.log", sys.executable, "-m", "daemon", *words):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/metrics"), 20.0, "the sidecar")
        yield url


class Prometheus:
    """What one may ask a Prometheus."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        reply = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert reply["status"] == "success", reply
        return reply["data"]

    def query(self, expression: str) -> list[Any]:
        """The series that an instant query finds, those without a number left out."""
        found = self.ask("query", query=expression)["result"]
        return [one for one in found if one["value"][1] != "NaN"]


@contextmanager
def prometheus(folder: Path, target_port: int, port: int) -> Iterator[Prometheus]:
    """Debian's Prometheus with our settings and rules, but every second."""
    if not PROMETHEUS.exists():
        pytest.skip("prometheus is missing: apt install prometheus")
    settings = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text("utf-8"))
    settings["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    settings["rule_files"] = [str(ROOT / "deploy/prometheus/alerts.yml")]
    settings["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target_port}"]}]
    (folder / "prometheus.yml").write_text(json.dumps(settings), "utf-8")
    words = (f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn")  # fmt: skip
    with process(folder / "prometheus.log", PROMETHEUS, *words):
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/-/ready"), 20.0, "prometheus")
        yield Prometheus(url)
