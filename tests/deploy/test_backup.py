"""Back up and restore as the runbook says, with its own commands: the daemon ends where it would have been without."""

from __future__ import annotations

import re
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from daemon.sources.link import Keys
from daemon.types import Entry
from tests.support.daemon_process import ROOT, DaemonProcess
from tests.support.servers import Server
from tests.support.stream import Feed, send
from tests.support.twin import Twin, entry

SETTINGS = """
[engine]
buffer_rows = 40
replay_batch = 8
trunk = {width = 16, depth = 1}
[stream]
batch_size = 8
linger_s = 3600
[publish]
every_s = 0
"""


def commands(heading: str, work: Path) -> None:
    """Run what a section types as root, below `work` in place of the host's root."""
    page = (ROOT / "docs/operations.md").read_text("utf-8")
    section = page.split(f"## {heading}\n")[1].split("\n## ")[0]
    lines = re.findall(r"^sudo ((?:tar|mv) .*)$", section, re.MULTILINE)
    assert lines
    for line in lines:
        there = re.sub(r"/var/(lib|tmp)", rf"{work}/\1", line)
        subprocess.run(["sh", "-ec", there], cwd=work, check=True, capture_output=True)


@pytest.mark.redis
@pytest.mark.timeout(120)
def test_a_restored_backup_learns_the_rest_from_the_log_and_ends_equal_to_the_bit(
    tmp_path: Path,
) -> None:
    for name in ("lib", "tmp"):
        (tmp_path / name).mkdir()
    server, feed = Server(tmp_path / "server", "valkey"), Feed(3)
    with closing(server), DaemonProcess(tmp_path / "lib/mtld", server.url, SETTINGS) as daemon:
        twin = Twin(daemon)

        def tell(*events: dict[str, str | bytes]) -> str:
            last = "0-0"
            for event in events:
                last = send(server.admin, [event])
                twin.apply([entry(last, event)])
            return last

        def read_to(last: str) -> None:
            daemon.wait(lambda told: told.watermark == last and told.state == "idle")

        daemon.start()
        daemon.wait_started()
        add = feed.told("mtl.task.add.v1", "digits", {"modality": "image", "holdout": 0.1})
        last = tell(add, *(feed.digits(5, 4) for _ in range(10)))
        read_to(last)
        daemon.ask("publish")  # by which the daemon evaluates, and that goes through the log
        for entry_id, flat in server.admin.call("XRANGE", Keys.of("test").events, f"({last}", "+"):
            fields = dict(zip(flat[::2], flat[1::2], strict=True))
            twin.apply([Entry(entry_id.decode(), fields)])
        daemon.ask("pause", reason="backup")
        commands("Back up", tmp_path)
        daemon.ask("resume")
        last = tell(*(feed.digits(5, 4) for _ in range(10)))
        read_to(last)
        assert daemon.drain() == 0
        commands("Restore", tmp_path)
        daemon.start()
        told = daemon.wait_started()
        daemon.ask("resume")  # it was paused when it was backed up
        read_to(last)
        assert told.counters["lost_events"] == 0
        assert daemon.drain() == 0
        twin.assert_equals_checkpoint()
