"""One stream, many deaths: feeds a daemon, kills it at fail-points or at random, and proves that nothing shows.

Meanwhile an operator publishes, promotes, and rolls back without leaving anything out, which replays to the same state.
The reference is a second daemon with a state directory of its own that is never killed. It reads a copy of the
log with the same ids, taken from the server's append-only file: what the first one decided stands in its log.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from daemon import releases
from daemon.errors import NotRunning, Refused
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

    from daemon.types import Json

REFERENCE = "reference"
# The first three die before a row is read, at different places of declaring the configured tasks.
EVERY_FAILPOINT = ("lease_taken", "control_sent:2", "recovered", *NAMES[2:])
# The same places, some moments later: past what a restart repeats at once.
LATER = (
    "read:5", "entered:6", "stepped:4", "staged:3", "written:2", "renamed:2", "current_swapped:2",
    "snapshot_renamed:2", "outbox_sent:2", "outbox_done:2", "displayed:2", "trimmed:2",
)  # fmt: skip
# Places that are only reached when an operator asks for it.
ASKED = {"champion_swapped": "demote", "rolled_back": "roll back"}
ASKED_ALONE = {"publish": {}, "accept": {"task": "digits"}}
ACTS = ("publish", "promote", "demote", "accept", "roll back", "roll back")
# What is learned follows from these.
LEARNED = '[holdout]\nsalt = "of both"\n[drift]\ndetect = true\n'
# And not from these: every snapshot may become champion, evaluations come often.
ASIDE = "[gate]\nmin_rows = 500\n[evaluate]\nevery_s = 0.4\n"
QUIET = "[evaluate]\nevery_s = 0\n"  # what stands in the log is all that is decided
SOURCES = ("cam-a/1", "cam-b/1")
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
    acts: Counter[str] = field(default_factory=Counter[str])  # of the operator, that were answered
    ids: list[str] = field(default_factory=list[str])  # of the entries sent, in order
    sent: list[stream.Fields] = field(default_factory=list[stream.Fields])
    _random: random.Random = field(init=False)
    _waiting: list[stream.Fields] = field(default_factory=list[stream.Fields])
    _chunks: int = 0
    _furthest: tuple[int, int] = (0, 0)  # the highest watermark that was ever seen durable
    _is_paused: bool = False
    _had_champion: bool = False

    def __post_init__(self) -> None:
        self.server = Server(self.folder / "server", "valkey", *aof.KEEP_ALL)
        often = stream.SETTINGS.replace("[publish]\nevery_s = 0", "[publish]\nevery_s = 1")
        settings = often + LEARNED + ASIDE + stream.TASKS
        self.daemon = DaemonProcess(self.folder / "state", self.server.url, settings)
        self.feed = stream.Feed(self.seed, SOURCES)
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
            self._waiting += self.take_chunk()
        found, self._waiting = self._waiting[:num], self._waiting[num:]
        return found

    def take_chunk(self) -> list[stream.Fields]:
        """One whole chunk: after it every fail-point is reached."""
        self._chunks += 1
        return [*self.feed.copies(), *self.feed.chunk(self._chunks - 1)]

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
        self._resume()
        self.send(events[half:])
        self._feed_until_it_ends(has_tasks, ASKED.get(failpoint, ""))
        self._died(failpoint, self.daemon.ended(1.0))
        assert self.deaths[-1].exit_code == -signal.SIGKILL, self.daemon.tail()

    def _feed_until_it_ends(self, has_tasks: bool, act: str) -> None:
        """A place that is reached once a checkpoint needs more than one chunk to be reached often.

        What is asked may be refused at first: a demotion needs a champion before this one.
        """
        for _ in range(12):
            if act:
                self._act(act, 0.5)
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
        events, act = self.take(EVENTS_A_KILL), threading.Thread()
        cut = chance.randrange(len(events) + 1)
        self.send(events[:cut])
        self.daemon.start()
        if chance.random() < 0.2:
            self._live(chance.uniform(0.0, START_S))
            self.send(events[cut:])
        else:
            self.daemon.wait_started()
            self._resume()
            act = threading.Thread(target=self._act, args=(chance.choice(ACTS), chance.random()))
            act.start()
            self.send(events[cut:])
            self._live(chance.uniform(0.0, WORK_S))
        how = chance.choices(("SIGKILL", "SIGTERM", "SIGTERM twice"), (70, 20, 10))[0]
        self.daemon.signal(signal.SIGKILL if how == "SIGKILL" else signal.SIGTERM)
        if how == "SIGTERM twice":
            self._live(chance.uniform(0.0, 0.05))
            self.daemon.signal(signal.SIGTERM)
        exit_code = self.daemon.ended()
        if act.ident is not None:
            act.join()
        self._died(how, exit_code)
        allowed = {
            "SIGKILL": {-signal.SIGKILL},
            "SIGTERM": {0, -signal.SIGTERM},  # before Python runs a signal simply ends it
            "SIGTERM twice": {0, -signal.SIGTERM, 128 + signal.SIGTERM},
        }
        assert self.deaths[-1].exit_code in allowed[how], self.daemon.tail()

    def roll_back(self) -> None:
        """One rollback that is answered, to the oldest checkpoint that is kept, and a death while it replays."""
        self.daemon.start()
        self.daemon.wait_started()
        self._resume()
        self._act("roll back", 0.99)
        assert self.acts["roll back"] == 1
        self._died("SIGKILL", self.daemon.kill())

    def accept(self) -> None:
        """One level is accepted, and a death soon after."""
        self.daemon.start()
        self.daemon.wait_started()
        self._resume()
        self._act("accept", 0.0)
        assert self.acts["accept"] == 1
        self._died("SIGKILL", self.daemon.kill())

    # -- what an operator does meanwhile -----------------------------------------------------------------------

    def _act(self, act: str, place: float) -> None:
        """Ask for one thing; `place` chooses among what there is. A death before the answer is what this is for."""
        try:
            if act in ASKED_ALONE:
                self.daemon.ask(act, **ASKED_ALONE[act])
            elif act == "roll back":
                self._roll_back(place)
            else:
                self._promote(act, place)
        except NotRunning:
            return
        except Refused:
            assert act != "publish"  # nothing to choose from yet, or a drain that has begun
            return
        self.acts[act] += 1

    def _roll_back(self, place: float) -> None:
        """Paused first, so that what has left until then is known; nothing is left out, so it ends where it was."""
        self._is_paused = True
        self.daemon.ask("pause", reason="to roll back")
        durable = self.daemon.durable()
        assert durable is not None
        self._furthest = max(self._furthest, id_tuple(durable["watermark"]))
        kept = self._retained()
        self.daemon.ask("rollback", seq=int(kept[int(place * len(kept))]["seq"]))
        self._resume()

    def _promote(self, act: str, place: float) -> None:
        known = releases.catalogue(self.daemon.state / "models")
        if act == "demote":
            self.daemon.ask("demote")
        elif known:
            name = known[int(place * len(known))].path.name
            self.daemon.ask("promote", name=name, force=True)

    def _resume(self) -> None:
        """Go on where a death has left it paused."""
        if self._is_paused:
            try:
                self.daemon.ask("resume")
            except NotRunning:
                return
            self._is_paused = False

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
        known = max(self._furthest, id_tuple(durable["watermark"]) if durable else (0, 0))
        self._furthest = known
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
        self._check_champion()
        gone = [one for one in self.ids if oldest <= id_tuple(one) < first]
        assert not gone, f"trimmed although a retained checkpoint needs them: {gone}"

    def _check_champion(self) -> None:
        """Once there was one there always is, and it is whole, as every release is."""
        models = self.daemon.state / "models"
        name = releases.target(models, "champion")
        self._had_champion = self._had_champion or name is not None
        assert (name is not None) == self._had_champion
        assert name is None or not releases.problems(models / name)

    def _oldest_retained(self) -> tuple[int, int]:
        """The watermark of the oldest cut that CURRENT still counts and keeps."""
        return min((id_tuple(one["watermark"]) for one in self._retained()), default=(0, 0))

    def _retained(self) -> list[Json]:
        """The manifests of the cuts that CURRENT still counts and keeps, newest first."""
        root = self.daemon.state / "checkpoints"
        if not (root / "CURRENT").exists():
            return []
        lineage = json.loads((root / "CURRENT").read_bytes())["lineage"][:3]
        kept = [root / f"{seq:06d}" / "manifest.json" for seq in lineage]
        return [json.loads(path.read_bytes()) for path in kept if path.exists()]

    # -- the end -------------------------------------------------------------------------------------------------

    def finish(self) -> Saved:
        """Let it live, read everything, drain it."""
        self.send([*self._waiting, *self.feed.last()])
        self._waiting = []
        return self.catch_up(self.daemon)

    def catch_up(self, daemon: DaemonProcess) -> Saved:
        """Start a daemon, wait until it has applied its whole log, drain it, read what it saved."""
        daemon.start()
        daemon.wait_started()
        if daemon is self.daemon:
            self._resume()
        daemon.wait_caught_up(self.server.admin)
        assert daemon.drain() == 0, daemon.tail()
        return saved(daemon.state)

    def reference(self) -> Saved:
        """The same log, read in one go by a daemon that is left alone."""
        log = aof.added(self.server.broker.directory, Keys.of(NAMESPACE).events)
        aof.copy(self.server.admin, log, Keys.of(REFERENCE).events)
        settings = stream.SETTINGS + LEARNED + QUIET
        folder = self.folder / "reference"
        with DaemonProcess(folder, self.server.url, settings, REFERENCE) as alone:
            found = self.catch_up(alone)
        # It detects the same drift and says so once more, at the end of its log, where nobody waits for it.
        own = aof.added(self.server.broker.directory, Keys.of(REFERENCE).events)[len(log) :]
        assert {json.loads(entry.fields[b"data"])["kind"] for entry in own} <= {"phase"}
        found.counters["control_events"] -= len(own)
        return found

    def verify(self) -> Saved:
        """Finish, compare with the reference, account for every row; returns what was saved."""
        killed, alone = self.finish(), self.reference()
        is_longer = alone.header["position"]["n"] > killed.header["position"]["n"]
        assert_same(killed, alone, position=not is_longer)
        directory = self.server.broker.directory
        dead = aof.added(directory, Keys.of(NAMESPACE).dead)
        first: dict[bytes, aof.Added] = {}
        for letter in dead:
            first.setdefault(letter.fields[b"id"], letter)
        mine = list(first.values())
        assert letters(mine) == letters(aof.added(directory, Keys.of(REFERENCE).dead))
        has_rolled_back = killed.header["epoch"] > 1  # then what is replayed is told again
        assert 0 < len(mine) == len(dead) or has_rolled_back, "a dead letter left twice"
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
        self.daemon.settings.write_text(stream.SETTINGS + LEARNED + QUIET)
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
