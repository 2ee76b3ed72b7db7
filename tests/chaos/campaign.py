"""One stream, many deaths: feeds a daemon, kills it at fail-points or at random, and proves that nothing shows.

The reference is a second daemon with a state directory of its own that is never killed. It reads a copy of the
log with the same ids, taken from the server's append-only file, since flushes and declarations were decided by
the first daemon and stand in its log.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daemon import releases
from daemon.failpoints import NAMES
from daemon.identity import id_tuple
from daemon.sources.link import Keys
from tests.support import aof, stream
from tests.support.compare import Saved, assert_same, letters, saved
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import NAMESPACE, Server
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

REFERENCE = "reference"
# The first three die before a row is read, at different places of declaring the configured tasks.
EVERY_FAILPOINT = ("lease_taken", "control_sent:2", "recovered", *NAMES[2:])
# The same places, some moments later: past what a restart repeats at once.
LATER = (
    "read:5", "entered:6", "stepped:4", "staged:3", "written:2", "renamed:2", "current_swapped:2",
    "snapshot_renamed:2", "outbox_sent:2", "outbox_done:2", "displayed:2", "trimmed:2",
)  # fmt: skip
EVENTS_A_KILL = 12  # sent for each random kill
START_S = 2.5  # about what it takes until a process works; a kill may fall into it
WORK_S = 0.7  # how long it may work before it is killed


@dataclass(frozen=True, slots=True)
class Death:
    """How one process ended."""

    how: str  # the fail-point, SIGKILL, SIGTERM or SIGTERM twice
    exit_code: int
    steps: int  # durable at that moment


@dataclass(slots=True)
class Campaign:
    """A server, a daemon, and everything that was ever sent to it."""

    folder: Path
    seed: int
    server: Server = field(init=False)
    daemon: DaemonProcess = field(init=False)
    feed: stream.Feed = field(init=False)
    deaths: list[Death] = field(default_factory=list[Death])
    ids: list[str] = field(default_factory=list[str])  # of the entries sent, in order
    sent: list[stream.Fields] = field(default_factory=list[stream.Fields])
    _random: random.Random = field(init=False)
    _waiting: list[stream.Fields] = field(default_factory=list[stream.Fields])
    _chunks: int = 0

    def __post_init__(self) -> None:
        self.server = Server(self.folder / "server", "valkey", *aof.KEEP_ALL)
        settings = stream.SETTINGS + stream.TASKS
        self.daemon = DaemonProcess(self.folder / "state", self.server.url, settings)
        self.feed = stream.Feed(self.seed)
        self._random = random.Random(self.seed)  # noqa: S311 - moments, not secrets

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()
        self.server.close()

    # -- feeding ---------------------------------------------------------------------------------------------

    def take(self, num: int) -> list[stream.Fields]:
        """The next events of the stream."""
        while len(self._waiting) < num:
            self._waiting += self.feed.chunk(self._chunks)
            self._chunks += 1
        found, self._waiting = self._waiting[:num], self._waiting[num:]
        return found

    def take_chunk(self) -> list[stream.Fields]:
        """One whole chunk: after it every fail-point is reached."""
        self._chunks += 1
        return self.feed.chunk(self._chunks - 1)

    def send(self, events: list[stream.Fields]) -> None:
        """Append events to the log."""
        for event in events:
            self.ids.append(stream.send(self.server.admin, [event]))
            self.sent.append(event)

    # -- dying -------------------------------------------------------------------------------------------------

    def die_at(self, failpoint: str) -> None:
        """Run until the fail-point kills the process; fails if it is not reached."""
        has_tasks = self.daemon.durable() is not None or "recovered" in self._names()
        events = self.take_chunk() if has_tasks else []
        half = len(events) // 2
        self.send(events[:half])
        self.daemon.start(failpoint)
        wait_until(self.daemon.is_up_or_ended, 60.0, "the daemon to start")
        self.send(events[half:])
        self._feed_until_it_ends(has_tasks)
        self._died(failpoint, self.daemon.ended(1.0))
        assert self.deaths[-1].exit_code == -signal.SIGKILL, self.daemon.tail()

    def _feed_until_it_ends(self, has_tasks: bool) -> None:
        """A place that is reached once a checkpoint needs more than one chunk to be reached often."""
        for _ in range(12):
            try:
                assert self.daemon.process is not None
                self.daemon.process.wait(5.0)
            except subprocess.TimeoutExpired:
                if has_tasks:
                    self.send(self.take_chunk())
            else:
                return

    def declare(self) -> None:
        """A first start that lives long enough to declare the configured tasks."""
        self.daemon.start()
        self.daemon.wait_started()
        self._died("SIGKILL", self.daemon.kill())

    def die_at_random(self) -> None:
        """Start, send some events before and some after, and end it at a random moment."""
        chance = self._random
        events = self.take(EVENTS_A_KILL)
        cut = chance.randrange(len(events) + 1)
        self.send(events[:cut])
        self.daemon.start()
        if chance.random() < 0.2:
            self._live(chance.uniform(0.0, START_S))
            self.send(events[cut:])
        else:
            self.daemon.wait_started()
            self.send(events[cut:])
            self._live(chance.uniform(0.0, WORK_S))
        how = chance.choices(("SIGKILL", "SIGTERM", "SIGTERM twice"), (70, 20, 10))[0]
        self.daemon.signal(signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM)
        if how == "SIGTERM twice":
            self._live(chance.uniform(0.0, 0.05))
            self.daemon.signal(signal.SIGTERM)
        self._died(how, self.daemon.ended())
        allowed = {
            "SIGKILL": {-signal.SIGKILL},
            "SIGTERM": {0, -signal.SIGTERM},  # before Python runs a signal simply ends it
            "SIGTERM twice": {0, -signal.SIGTERM, 128 + signal.SIGTERM},
        }
        assert self.deaths[-1].exit_code in allowed[how], self.daemon.tail()

    def _live(self, seconds: float) -> None:
        assert self.daemon.process is not None
        try:
            self.daemon.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        assert self.daemon.returncode in (0, -signal.SIGTERM, 128 + signal.SIGTERM), (
            self.daemon.tail()
        )

    def _died(self, how: str, exit_code: int) -> None:
        durable = self.daemon.durable()
        self.deaths.append(Death(how, exit_code, durable["step"] if durable else 0))
        self.check_output_commit()

    def _names(self) -> set[str]:
        return {death.how.partition(":")[0] for death in self.deaths}

    # -- what must hold after each death -----------------------------------------------------------------------

    def check_output_commit(self) -> None:
        """Whatever has left the daemon has its cause in a durable checkpoint (promise P3)."""
        durable = self.daemon.durable()
        known = id_tuple(durable["watermark"]) if durable else (0, 0)
        source = self.server.source()
        bounds = source.bounds()
        assert id_tuple(bounds.group_last_id or "0-0") <= known, "the group shows too much"
        keys = Keys.of(NAMESPACE)
        for letter in self.server.admin.call("XREVRANGE", keys.dead, "+", "-", "COUNT", 20):
            fields = dict(zip(letter[1][::2], letter[1][1::2], strict=True))
            assert id_tuple(fields[b"id"].decode()) <= known, f"left too early: {fields}"
        for release in releases.catalogue(self.daemon.state / "models"):
            assert not releases.problems(release.path), release
            told = releases.manifest(release.path)
            assert id_tuple(told["watermark"]) <= known, f"{release} was published too early"
        oldest = self._oldest_retained()
        first = id_tuple(bounds.first_id or "0-0")
        gone = [one for one in self.ids if oldest <= id_tuple(one) < first]
        assert not gone, f"trimmed although a retained checkpoint needs them: {gone}"

    def _oldest_retained(self) -> tuple[int, int]:
        """The watermark of the oldest cut that CURRENT still counts and keeps."""
        root = self.daemon.state / "checkpoints"
        if not (root / "CURRENT").exists():
            return (0, 0)
        lineage = json.loads((root / "CURRENT").read_bytes())["lineage"][:3]
        kept = [
            root / f"{seq:06d}" / "manifest.json"
            for seq in lineage
            if (root / f"{seq:06d}").exists()
        ]
        return min(id_tuple(json.loads(path.read_bytes())["watermark"]) for path in kept)

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> Saved:
        """Let it live, read everything, drain it."""
        self.send([*self._waiting, *self.feed.last()])
        self._waiting = []
        return self.catch_up(self.daemon)

    def catch_up(self, daemon: DaemonProcess) -> Saved:
        """Start a daemon, wait until it has applied its whole log, drain it, read what it saved."""
        daemon.start()
        daemon.wait_caught_up(self.server.admin)
        assert daemon.drain() == 0, daemon.tail()
        return saved(daemon.state)

    def reference(self) -> Saved:
        """The same log, read in one go by a daemon that is left alone."""
        log = aof.added(self.server.broker.directory, Keys.of(NAMESPACE).events)
        aof.copy(self.server.admin, log, Keys.of(REFERENCE).events)
        alone = DaemonProcess(
            self.folder / "reference", self.server.url, stream.SETTINGS, REFERENCE
        )
        with alone:
            return self.catch_up(alone)

    def verify(self) -> Saved:
        """Finish, compare with the reference, account for every row; returns what was saved."""
        killed, alone = self.finish(), self.reference()
        assert_same(killed, alone)
        directory = self.server.broker.directory
        mine = aof.added(directory, Keys.of(NAMESPACE).dead)
        assert letters(mine) == letters(aof.added(directory, Keys.of(REFERENCE).dead))
        assert len({letter.fields[b"id"] for letter in mine}) == len(mine) > 0
        marks = [line.fields[b"seq"] for line in aof.added(directory, Keys.of(NAMESPACE).journal)]
        assert len(set(marks)) == len(marks) > 0, "a journal line left twice"
        told = killed.counters
        parts = ("trained_rows", "held_out_rows", "duplicate_rows", "dead_rows")
        assert all(told[part] > 0 for part in parts), told
        assert sum(told[part] for part in parts) == stream.rows_of(self.sent), told
        assert told["lost_events"] == told["reread_events"] == 0, told
        return killed

    def send_everything_again(self, before: Saved) -> None:
        """Every event once more, refused ones too: counted as a duplicate, and nothing is learned from it."""
        again = [event for event in self.sent if "id" in event]
        self.send(again)
        after = self.catch_up(self.daemon)
        was, now = before.counters, after.counters
        assert_same(_uncounted(before), _uncounted(after), position=False)
        assert now["duplicate_events"] - was["duplicate_events"] == len(again), (was, now)
        for name in (
            "accepted_events",
            "dead_events",
            "trained_rows",
            "held_out_rows",
            "control_events",
        ):
            assert was[name] == now[name], name


def _uncounted(one: Saved) -> Saved:
    """The same without the counters, the only thing that repetitions change."""
    machine = {key: value for key, value in one.meta["machine"].items() if key != "counters"}
    return replace(one, meta={**one.meta, "machine": machine})
