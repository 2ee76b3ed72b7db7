"""Every kind of malformed event through a real stream, each between two good ones: nothing bad gets in (promise P6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from daemon.sources.link import Keys
from daemon.types import Limits
from tests.support import malformed
from tests.support.compare import Saved, saved
from tests.support.daemon_process import DaemonProcess
from tests.support.servers import Server

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.raw import Fields

pytestmark = [pytest.mark.redis, pytest.mark.timeout(180)]

NAMESPACES = ("mixed", "good")
SETTINGS = """
[engine]
buffer_rows = 40
replay_batch = 8
trunk = {{width = 16, depth = 1}}
[stream]
batch_size = 6
linger_s = 3600
max_unread = 100000
[checkpoint]
every_s = 5.0
[publish]
every_s = 0
[holdout]
salt = "the same for both"
[limits]
max_event_bytes = {max_event_bytes}
max_rows = {max_rows}
reference_root = "{root}"
max_reference_bytes = {max_reference_bytes}
"""


def test_no_malformed_event_leaves_a_trace_but_its_dead_letter(tmp_path: Path) -> None:
    kinds = malformed.catalogue()
    assert len(kinds) >= 45
    limits = Limits(
        max_event_bytes=1 << 20,
        max_rows=4096,
        reference_root=str(tmp_path / "references"),
        max_reference_bytes=1 << 18,
    )
    (tmp_path / "references").mkdir()
    bad = [kind.make(limits) for kind in kinds]
    mixed, good = [*malformed.setup(), malformed.good(0)], [*malformed.setup(), malformed.good(0)]
    for number, event in enumerate(bad, 1):
        good.append(malformed.good(number))
        mixed += [event, malformed.good(number)]
    server = Server(tmp_path / "server", "valkey")
    ids = {
        namespace: _send(server, namespace, events)
        for namespace, events in zip(NAMESPACES, (mixed, good), strict=True)
    }
    with _daemon(tmp_path, server, limits, 0) as one, _daemon(tmp_path, server, limits, 1) as two:
        for daemon in (one, two):
            daemon.start()
        for daemon in (one, two):
            last = ids[daemon.namespace][-1]
            daemon.wait(lambda told, last=last: told.watermark == last, 120.0, "the whole stream")
            assert daemon.drain() == 0, daemon.tail()
        _assert_same_learning(saved(one.state), saved(two.state))
        counters = saved(one.state).counters
    letters = _dead(server)
    places = ids["mixed"][len(malformed.setup()) + 1 :: 2]
    expected = [
        (place, kind.name, kind.reason)
        for place, kind in zip(places, kinds, strict=True)
        if kind.reason != "duplicate"
    ]
    found = [(place, letters.get(place, "no dead letter")) for place, _, _ in expected]
    wrong = [
        f"{name}: {reason} expected, found {seen}"
        for (_, name, reason), (_, seen) in zip(expected, found, strict=True)
        if seen != reason
    ]
    assert not wrong, "\n".join(wrong)
    assert len(letters) == len(expected) == counters["dead_events"]
    assert counters["duplicate_events"] == len(kinds) - len(expected) > 0
    server.close()


def _daemon(folder: Path, server: Server, limits: Limits, which: int) -> DaemonProcess:
    settings = SETTINGS.format(
        root=limits.reference_root,
        max_event_bytes=limits.max_event_bytes,
        max_rows=limits.max_rows,
        max_reference_bytes=limits.max_reference_bytes,
    )
    namespace = NAMESPACES[which]
    return DaemonProcess(folder / namespace, server.url, settings, namespace)


def _send(server: Server, namespace: str, events: list[Fields]) -> list[str]:
    key = Keys.of(namespace).events
    return [
        server.admin.call(
            "XADD", key, "*", *[part for pair in event.items() for part in pair]
        ).decode()
        for event in events
    ]


def _dead(server: Server) -> dict[str, str]:
    """Reasons by the id of the entry that was refused."""
    rows = server.admin.call("XRANGE", Keys.of("mixed").dead, "-", "+")
    letters = [dict(zip(flat[::2], flat[1::2], strict=True)) for _, flat in rows]
    found = {letter[b"id"].decode(): letter[b"reason"].decode() for letter in letters}
    assert len(found) == len(letters), "an event has two dead letters"
    return found


def _assert_same_learning(one: Saved, other: Saved) -> None:
    """All that was learned: weights, optimizer, replay, hold-outs, vocabularies, pending rows."""
    assert json.dumps(one.meta["engine"]) == json.dumps(other.meta["engine"])
    assert one.meta["machine"]["pending"] == other.meta["machine"]["pending"]
    assert one.header["step"] == other.header["step"] > 20
    names = {name for name in one.tensors if "ring" not in name}
    assert names == {name for name in other.tensors if "ring" not in name}
    assert len(names) > 10
    for name in names:
        assert one.tensors[name].tobytes() == other.tensors[name].tobytes(), name
    for name in ("accepted_events", "trained_rows", "held_out_rows", "control_events"):
        assert one.counters[name] == other.counters[name], name
