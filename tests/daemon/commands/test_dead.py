"""`mtld dead`: filters, export that is enough to send an event again, and purging."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from daemon.sources.link import Keys, pairs
from tests.daemon.commands.conftest import Mtld
from tests.support.servers import Server

pytestmark = pytest.mark.redis

KEYS = Keys.of("default")
OLD, NEW = "2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z"


def add(server: Server, key: str, fields: dict[str, Any]) -> str:
    flat = [part for name, value in fields.items() for part in (name, value)]
    return server.admin.call("XADD", key, "*", *flat).decode()


def bury(
    server: Server, reason: str = "nan_input", task: str = "a", at: str = OLD, data: bytes = b"x"
) -> tuple[str, str]:
    event = {"specversion": "1.0", "id": "7", "source": b"cam/\xff", "type": "mtl.data.v1", "subject": task,
             "data": data}  # fmt: skip
    place = add(server, KEYS.events, event)
    told = {"id": place, "event_id": "7", "source": "cam/1", "type": "mtl.data.v1", "subject": task, "hop": "0",
            "rows": "3", "reason": reason, "message": "x holds NaN", "at": at}  # fmt: skip
    return add(server, KEYS.dead, told), place


def test_filters_choose_by_reason_task_and_age(mtld: Mtld, server: Server) -> None:
    letters = [
        bury(server)[0],
        bury(server, reason="wrong_shape")[0],
        bury(server, task="b")[0],
        bury(server, at=NEW)[0],
    ]

    def listed(*words: str) -> list[int]:
        found = mtld("dead", "list", *words, "-o", "json").json
        return [letters.index(one["letter"]) for one in found]

    assert listed() == [3, 2, 1, 0]
    assert listed("--reason", "nan_input") == [3, 2, 0]
    assert listed("--task", "b") == [2]
    assert listed("--older-than", "30d", "--reason", "nan_input", "-n", "1") == [2]
    assert mtld("dead", "list", "--older-than", "soon").code == 2


def test_the_table_shows_each_message_whole(mtld: Mtld, server: Server) -> None:
    bury(server)
    result = mtld("dead", "list")
    assert "    cam/1: x holds NaN" in result.out.splitlines()
    assert "mtld dead replay ID" in result.err


def test_an_exported_event_can_be_sent_again_byte_for_byte(mtld: Mtld, server: Server) -> None:
    payload = bytes(range(256))
    bury(server, data=payload)
    (line,) = mtld("dead", "export").out.splitlines()
    event = json.loads(line)["event"]
    data = base64.b64decode(event.pop("data_base64"))
    flat = [
        part
        for name, value in event.items()
        for part in (name, value.encode("utf-8", "surrogateescape"))
    ]
    server.admin.call("XADD", KEYS.events, "*", *flat, "data", data)
    first, again = (pairs(row[1]) for row in server.admin.call("XRANGE", KEYS.events, "-", "+"))
    assert again == first
    assert again[b"data"] == payload


def test_an_export_is_oldest_first_and_says_what_the_log_no_longer_has(
    mtld: Mtld, server: Server
) -> None:
    (first, place), (second, _) = bury(server), bury(server)
    server.admin.call("XDEL", KEYS.events, place)
    result = mtld("dead", "export")
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [(one["letter"], one["event"] is None) for one in found] == [
        (first, True),
        (second, False),
    ]
    assert "2 dead letters exported; of 1 of them the log no longer has the event" in result.err


def test_a_purge_deletes_the_letters_and_leaves_the_events(mtld: Mtld, server: Server) -> None:
    keep = bury(server, reason="wrong_shape")[0]
    bury(server)
    bury(server)
    words = ("dead", "purge", "--all", "--reason", "nan_input")
    dry = mtld(*words, "--dry-run")
    assert (dry.code, dry.out) == (0, "would purge 2 dead letters: 2 nan_input\n")
    refused = mtld(*words)
    assert (refused.code, "say --confirm default" in refused.err) == (7, True)
    assert server.admin.call("XLEN", KEYS.dead) == 3
    done = mtld(*words, "--confirm", "default", "-o", "json")
    assert done.json == {"chosen": 2, "purged": 2, "reasons": {"nan_input": 2}}
    assert [row[0].decode() for row in server.admin.call("XRANGE", KEYS.dead, "-", "+")] == [keep]
    assert server.admin.call("XLEN", KEYS.events) == 3


def test_one_letter_is_purged_by_its_id(mtld: Mtld, server: Server) -> None:
    letter, _ = bury(server)
    assert mtld("dead", "purge", letter, "--confirm", "default").code == 0
    assert mtld("dead", "purge", letter, "--confirm", "default").code == 7  # it is gone
    assert mtld("dead", "purge", "--all").out == "purged 0 dead letters\n"  # nothing to confirm


@pytest.mark.parametrize(
    "words", [["purge"], ["purge", "1-1", "--all"], ["replay", "1-1", "--reason", "x"]]
)
def test_what_is_meant_must_be_said_once(mtld: Mtld, server: Server, words: list[str]) -> None:
    assert mtld("dead", *words).code == 2


def test_a_long_purge_is_cut_into_pages(server: Server) -> None:
    from daemon.deadletter import PURGED_AT_ONCE, DeadLetters

    ids = [add(server, KEYS.dead, {"id": "1-1"}) for _ in range(PURGED_AT_ONCE + 3)]
    letters = DeadLetters.open(server.url, "default")
    assert letters.purge(ids) == len(ids)
    assert letters.totals() == (0, len(ids))
    letters.close()
