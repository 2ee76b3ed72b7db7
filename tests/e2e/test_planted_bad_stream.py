"""Labels go bad for one of two real tasks: the gate refuses, the guard acts, and an operator brings back what was good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from daemon import cli, releases
from daemon.sources.link import Keys
from tests.support.compare import saved
from tests.support.daemon_process import DaemonProcess
from tests.support.planted import DIGITS, SETTINGS, is_bad, planted
from tests.support.servers import Server
from tests.support.stream import send

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from daemon.types import Vitals
    from tests.support.compare import Saved
    from tests.support.planted import Planted
    from tests.support.stream import Fields

pytestmark = [pytest.mark.redis, pytest.mark.slow, pytest.mark.timeout(180)]

REFUSED = 7  # exit code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("planted"), "valkey")
    yield made
    made.close()


@pytest.fixture(scope="module")
def events() -> Planted:
    return planted()


class Site:
    """One daemon on a stream of its own, and the operator's command line."""

    def __init__(self, folder: Path, server: Server, name: str, guard: str, capsys: Any) -> None:
        settings = f'{SETTINGS}[guard]\naction = "{guard}"\n'
        self.name, self.server, self._capsys = name, server, capsys
        self.daemon = DaemonProcess(folder / name, server.url, settings, name)
        self.daemon.start()
        self.daemon.wait_started()

    def send(self, events: Sequence[Fields]) -> list[str]:
        """Append events and wait until all are applied; returns the ids of their entries."""
        ids = [send(self.server.admin, [event], self.name) for event in events]
        self.daemon.wait(lambda told: told.watermark == ids[-1] and told.state == "idle")
        return ids

    def mtld(self, *words: str, code: int = 0) -> Any:
        """What a verb prints as JSON."""
        self._capsys.readouterr()
        found = cli.run([*words, "--state", str(self.daemon.state), "-o", "json"], lambda *_: 0)
        told = self._capsys.readouterr()
        assert found == code, told.err
        return json.loads(told.out) if told.out else told.err

    def publish(self) -> tuple[str, dict[str, Any]]:
        """The name of a new snapshot, and the gate's verdict as its manifest has it."""
        self.mtld("snapshot", "publish")
        found = self.mtld("snapshot", "show", "latest")
        return releases.directory_name(found["version"]), found["verdict"]

    def champion(self) -> str:
        """What users are served, whole."""
        (found,) = [one for one in self.mtld("snapshot", "list") if "champion" in one["aliases"]]
        name = releases.directory_name(found["version"])
        assert self.mtld("snapshot", "verify", name)[0]["problems"] == []
        return name

    def score(self, epoch: int = 1) -> None:
        """Have every hold-out scored, as the schedule would, and wait until all is read that there is in that epoch."""
        self.daemon.ask("score")  # one decision after the other, some tasks each

        def is_done(told: Vitals) -> bool:
            ((newest, _),) = self.server.admin.call(
                "XREVRANGE", Keys.of(self.name).events, "+", "-", "COUNT", 1
            )
            here = (told.epoch, told.watermark, told.state)
            return here == (epoch, newest.decode(), "idle")

        self.daemon.wait(is_done)

    def journal(self, kind: str) -> list[dict[str, Any]]:
        """The details of the lines of one kind that are in the server."""
        for _ in range(2):  # lines leave just after the answer: the second one says that they have
            self.mtld("checkpoint", "now")
        rows = self.server.admin.call("XRANGE", Keys.of(self.name).journal, "-", "+")
        lines = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in rows]
        return [json.loads(line[b"detail"]) for line in lines if line[b"kind"] == kind.encode()]

    def saved(self) -> Saved:
        """The state as it is now."""
        self.mtld("checkpoint", "now")
        return saved(self.daemon.state)

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: object) -> None:
        self.daemon.close()


def learned(found: Saved) -> dict[str, Any]:
    """All that was learned or waits to be: weights, optimizer, replay, hold-outs, pending rows, and their JSON."""
    theirs = ("state:machine/guard", "machine+ring")  # they name entries and decisions of one log
    told = {name: (one.dtype.str, one.shape, one.tobytes())
            for name, one in found.tensors.items() if not name.startswith(theirs)}  # fmt: skip
    meta = {**found.meta["engine"], "pending": found.meta["machine"]["pending"]}
    meta["choice"] = meta["choice"]["live"]  # what it rests on is of the evaluations in one log
    return {**told, "json": json.dumps(meta, sort_keys=True), "step": found.header["step"]}


def assert_as_if_never_seen(one: Saved, other: Saved) -> None:
    """Bit-equal."""
    mine, theirs = learned(one), learned(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if mine[name] != theirs[name]] == []
    for part in ("engine/model.", "engine/optim.", "engine+replay", "engine+held_out"):
        assert any(part in name for name in mine), (part, sorted(mine))


def runs(ids: list[str], bad: list[bool]) -> list[str]:
    """FIRST..LAST of each run of bad entries."""
    found: list[list[str]] = []
    for place, entry in enumerate(ids):
        if bad[place] and place and bad[place - 1]:
            found[-1][1] = entry
        elif bad[place]:
            found.append([entry, entry])
    return ["..".join(one) for one in found]


def test_an_operator_brings_the_old_champion_and_the_old_weights_back(
    tmp_path: Path, server: Server, events: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    with Site(tmp_path, server, "spoilt", "alert", capsys) as site:
        site.send(events.good)
        old, verdict = site.publish()
        assert (verdict["decision"], site.champion()) == ("promoted", old)
        site.mtld("checkpoint", "now")
        before = site.mtld("checkpoint", "list")[0]["seq"]
        (switch,) = site.send([events.switch])
        ids = site.send(events.stretch)

        _it_is_told_of_and_refused(site, switch, old)
        _one_command_brings_the_old_champion_back(site, old)

        skips = runs(ids, [is_bad(event) for event in events.stretch])
        words = [word for skip in skips for word in ("--skip", skip)]
        done = site.mtld("rollback", str(before), *words, "--confirm", str(before))
        assert done["epoch"] == 2
        site.send(events.later)
        spoilt = site.saved()
        assert spoilt.counters["skipped_events"] == 36
        new, verdict = site.publish()
        assert (verdict["decision"], site.champion()) == ("promoted", new), verdict

    with Site(tmp_path, server, "clean", "alert", capsys) as site:
        site.send(events.good)
        site.send([events.switch])
        site.send([event for event in events.stretch if not is_bad(event)])
        site.send(events.later)
        assert_as_if_never_seen(spoilt, site.saved())


def _it_is_told_of_and_refused(site: Site, switch: str, old: str) -> None:
    """The guard, set to alert, says so and does nothing; the gate refuses, with the numbers in the manifest."""
    site.score()
    (fell,) = site.journal("guard_fell")
    assert (fell["since"], list(fell["parts"])) == (switch, ["digits"])
    _, verdict = site.publish()
    assert verdict["decision"] == "refused"
    digits, tumours = verdict["tasks"]["digits"], verdict["tasks"]["tumours"]
    assert digits["score"] < digits["best"] - digits["tolerance"]
    assert digits["tolerance"] == DIGITS["tolerance"]
    assert f"digits {digits['score']:.4f}, best {digits['best']:.4f}" in verdict["reason"]
    assert tumours["is_within"]
    assert tumours["rows"] >= 20, "it was judged"
    assert site.champion() == old
    assert site.journal("rolled_back") == []


def _one_command_brings_the_old_champion_back(site: Site, old: str) -> None:
    bad = releases.directory_name(site.mtld("snapshot", "show", "latest")["version"])
    assert "the gate refused" in site.mtld("snapshot", "promote", bad, code=REFUSED)
    site.mtld("snapshot", "promote", bad, "--force", "--confirm", bad)
    assert site.champion() == bad
    site.mtld("snapshot", "rollback", "--reason", "bad labels")
    assert site.champion() == old


def test_a_guard_that_holds_lets_no_snapshot_become_champion(
    tmp_path: Path, server: Server, events: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    with Site(tmp_path, server, "held", "hold", capsys) as site:
        site.send(events.good)
        old, _ = site.publish()
        site.send([events.switch, *events.stretch])
        site.score()
        _, verdict = site.publish()
        (fell,) = site.journal("guard_fell")
        assert verdict["decision"] == "held"
        assert f"digits fell from {fell['parts']['digits']['was']:.4f}" in verdict["reason"]
        assert site.champion() == old
        assert site.journal("rolled_back") == []


def test_a_guard_that_rolls_back_returns_to_before_the_switch_without_what_came_since(
    tmp_path: Path, server: Server, events: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    with Site(tmp_path, server, "guarded", "rollback", capsys) as site:
        site.send(events.good)
        before = site.saved()
        (switch,) = site.send([events.switch])
        ids = site.send(events.stretch)
        site.score(epoch=2)
        (done,) = site.journal("rolled_back")
        assert (done["by"], done["skips"][0][0]) == ("guard", switch)
        after = site.saved()
        assert_as_if_never_seen(after, before)
        assert (
            after.counters["skipped_events"] == 1 + len(ids) + 2
        )  # the switch and the two decisions of an evaluation too
        site.send(events.later)
        guarded = site.saved()
        assert not guarded.meta["machine"]["guard"]["fallen"]

    with Site(tmp_path, server, "unseen", "alert", capsys) as site:
        site.send(events.good)
        site.send(events.later)
        assert_as_if_never_seen(guarded, site.saved())
