"""`mtld sidecar`: a process of its own that answers probes, scrapes and the page while the trainer computes or hangs.

It reads the files that the trainer writes, asks the trainer nothing, and changes nothing but its own history.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

from daemon import notify
from daemon.web.answers import Answers
from daemon.web.gpus import Gpus
from daemon.web.history import NAME, History
from daemon.web.server import Server, address
from daemon.web.streaming import Pulse

if TYPE_CHECKING:
    from pathlib import Path


def serve(state_dir: Path, listen: str) -> int:
    """Answer until SIGTERM or SIGINT; returns 0."""
    asked = threading.Event()

    def ask(*_: object) -> None:
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask)
    at = address(listen)
    gpus = Gpus()
    history = History(state_dir / NAME, _say)
    pulse = Pulse(state_dir, history)
    server = Server(at, Answers(state_dir, history, gpus.now), pulse)
    for work in (server.serve_forever, pulse.run, gpus.run):
        threading.Thread(target=work, daemon=True).start()
    _say(f"listening on {server.url}, state in {state_dir}")
    notify.ready()
    asked.wait()
    notify.stopping()
    pulse.stop()
    gpus.stop()
    server.shutdown()
    server.server_close()
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"mtld sidecar: {line}\n")
    sys.stderr.flush()
