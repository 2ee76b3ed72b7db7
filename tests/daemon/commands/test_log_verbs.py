"""push, task, dead and tail against a real server: what lands in the log, and what is read back from it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daemon.sources.link import Keys, pairs
from daemon.types import Vitals
from tests.daemon.commands.conftest import Mtld
from tests.support.servers import Server

pytestmark = pytest.mark.redis

KEYS = Keys.of("default")


def events(server: Server) -> list[dict[bytes, bytes]]:
    return [pairs(row[1]) for row in server.admin.call("XRANGE", KEYS.events, "-", "+")]


def add(server: Server, key: str, **fields: Any) -> str:
    flat = [part for name, value in fields.items() for part in (name, str(value))]
    return server.admin.call("XADD", key, "*", *flat).decode()


# -- push -----------------------------------------------------------------------------------------------------


def test_the_rows_of_a_file_become_events_in_file_order(
    mtld: Mtld, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "rows.npz"
    np.savez(path, x=np.arange(10, dtype=np.float32).reshape(5, 2), y=np.arange(5))
    result = mtld("push", path, "--task", "a", "--rows-per-event", 2, "--durable", "-o", "json")
    assert result.code == 0
    found = result.json
    assert (found["rows"], found["events"], found["durable"]) == (5, 3, 3)
    sent = events(server)
    assert [(one[b"type"], one[b"subject"], one[b"mtlrows"]) for one in sent] == [
        (b"mtl.data.v1", b"a", rows) for rows in (b"2", b"2", b"1")
    ]
    assert found["source"].encode() == sent[0][b"source"]
    assert "5 rows in 3 events" in mtld("push", path, "--task", "a", "--rows-per-event", 2).out


def test_what_would_be_refused_or_wait_is_said_before_it_is_sent(
    mtld: Mtld,
    server: Server,
    tell: Callable[..., Vitals],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MTLD_REDIS_URL")  # a server that was named is somebody's own affair
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n')
    tell(broker=f"valkey 9 {server.url}", tasks=[{"name": "a"}])
    assert not mtld("push", path, "-t", "a").err
    assert "before `mtld task add b` is refused" in mtld("push", path, "-t", "b").err
    tell(broker=f"valkey 9 {server.url}", state="stopped")
    assert "no daemon runs: `mtld run`" in mtld("push", path, "-t", "a").err
    assert len(events(server)) == 3


def test_text_travels_as_it_is(mtld: Mtld, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text,label\ngrüezi,greet\nbye,leave\n")
    assert mtld("push", path, "-t", "intent", "--label", "label").code == 0
    (event,) = events(server)
    data = json.loads(event[b"data"])
    assert (data["x"], data["y"]) == (["grüezi", "bye"], ["greet", "leave"])


def test_a_file_that_breaks_half_way_says_what_is_in_the_log(
    mtld: Mtld, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n' * 3 + "oops\n")
    result = mtld("push", path, "-t", "a", "--rows-per-event", 1)
    assert result.code == 1
    assert result.err.splitlines()[0] == "stopped after 2 rows in 2 events; those are in the log"
    assert f"{path}:4: not a JSON object" in result.err
    assert len(events(server)) == 2


def test_rows_of_different_shapes_are_refused_without_a_traceback(
    mtld: Mtld, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n{"x": [1, 2], "y": 0}\n')
    result = mtld("push", path, "-t", "a")
    assert result.code == 1
    assert "different shapes" in result.err
    assert events(server) == []


def test_a_dry_run_reads_everything_and_sends_nothing(mtld: Mtld, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n' * 3)
    words = ("push", path, "-t", "a", "--rows-per-event", 2, "--dry-run")
    assert mtld(*words).out.startswith("would send 3 rows in 2 events, ")
    assert mtld(*words, "-o", "json").json["first"] == ""
    path.write_text('{"x": [1], "y": 0}\n' * 3 + '{"x": [[1]], "y": 0}\n{"x": [1]}\n')
    result = mtld(*words)
    assert (result.code, result.err.splitlines()[0]) == (1, "the first 2 rows are good")


def test_a_rate_is_kept(
    mtld: Mtld, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("daemon.commands.progress.time.sleep", slept.append)
    monkeypatch.setattr("daemon.commands.progress.time.monotonic", lambda: 100.0)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n' * 5)
    assert mtld("push", path, "-t", "a", "--rows-per-event", 2, "--rate", 4).code == 0
    assert slept == [0.5, 1.0, 1.25]  # until so many rows are due, had nothing else taken time


def test_an_interrupted_push_says_what_is_in_the_log(
    mtld: Mtld, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("daemon.commands.progress.time.sleep", interrupt)
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": [1], "y": 0}\n' * 5)
    result = mtld("push", path, "-t", "a", "--rows-per-event", 2, "--rate", 1)
    assert result.code != 0
    assert "stopped after 2 rows in 1 event; those are in the log" in result.err
    assert len(events(server)) == 1


def test_a_folder_of_pictures_is_pushed_scaled_and_grey(
    mtld: Mtld, server: Server, tmp_path: Path
) -> None:
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (9, 7)).save(tmp_path / "pets" / name / "1.png")
    words = ("push", tmp_path / "pets", "-t", "pets", "--grey")
    assert mtld(*words, "--size", "4by2").code == 2
    assert mtld(*words, "--size", "0x2").code == 2
    assert mtld(*words, "--size", "4x2").code == 0
    (event,) = events(server)
    assert event[b"datacontenttype"] == b"application/json"  # string labels travel as text
    data = json.loads(event[b"data"])
    assert (np.shape(data["x"]), data["y"], data["dtype"]) == (
        (2, 2, 4),
        ["cat", "dog"],
        {"x": "uint8"},
    )


# -- task -----------------------------------------------------------------------------------------------------


def test_a_task_is_declared_with_its_settings(mtld: Mtld, server: Server) -> None:
    words = (
        "--modality",
        "image",
        "--set",
        "input_shape=[28,28]",
        "--set",
        "encoder=cnn",
        "--set",
        "holdout=0.1",
    )
    result = mtld("task", "add", "fashion", *words, "-o", "json")
    assert (result.code, result.json["applied"]) == (0, None)
    (event,) = events(server)
    assert (event[b"type"], event[b"subject"]) == (b"mtl.task.add.v1", b"fashion")
    said = json.loads(event[b"data"])
    assert said == {
        "modality": "image",
        "kind": "classification",
        "input_shape": [28, 28],
        "encoder": "cnn",
        "holdout": 0.1,
    }


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--modality", "imgae"], "did you mean 'image'?"),
        (["--modality", "text", "--kind", "clasification"], "did you mean 'classification'?"),
        (["--modality", "text", "--set", "holdot=1"], "did you mean 'holdout'?"),
        (["--modality", "text", "--set", "holdout"], "write KEY=VALUE"),
        (["--modality", "text", "--set", "name=b"], "known are"),
    ],
)
def test_a_task_that_does_not_fit_is_not_declared(
    mtld: Mtld, server: Server, words: list[str], says: str
) -> None:
    result = mtld("task", "add", "a", *words)
    assert result.code == 2
    assert says in result.err
    assert events(server) == []


def test_a_switch_and_a_retirement_are_ordered_with_the_data(mtld: Mtld, server: Server) -> None:
    assert mtld("task", "switch", "a", "--phase", "p2").code == 0
    assert mtld("task", "retire", "a", "--confirm", "a").code == 0
    assert [(one[b"type"], one[b"subject"]) for one in events(server)] == [
        (b"mtl.task.switch.v1", b"a"),
        (b"mtl.task.retire.v1", b"a"),
    ]
    assert json.loads(events(server)[0][b"data"]) == {"phase": "p2"}


def test_a_retirement_wants_to_be_meant(mtld: Mtld, server: Server) -> None:
    result = mtld("task", "retire", "a")
    assert result.code == 7
    assert "say --confirm a" in result.err
    assert events(server) == []


Tell = Callable[..., Vitals]


# -- dead -----------------------------------------------------------------------------------------------------


def bury(server: Server, reason: str = "nan_input", hop: str = "0") -> tuple[str, str]:
    fields = {
        "specversion": "1.0",
        "id": "7",
        "source": "cam/1",
        "type": "mtl.data.v1",
        "subject": "a",
        "data": "\u00e9x",
    }
    place = add(server, KEYS.events, **fields, mtlhop=hop)
    letter = add(server, KEYS.dead, id=place, event_id="7", source="cam/1", type="mtl.data.v1", subject="a", hop=hop,
                 rows=3, reason=reason, message="x of a holds NaN", at="2026-01-01T00:00:00Z")  # fmt: skip
    return letter, place


def test_dead_letters_are_listed_newest_first_with_their_reasons(
    mtld: Mtld, server: Server
) -> None:
    first, second = bury(server)[0], bury(server, "wrong_shape")[0]
    found = mtld("dead", "list", "-o", "json").json
    assert [(one["letter"], one["reason"]) for one in found] == [
        (second, "wrong_shape"),
        (first, "nan_input"),
    ]
    only = mtld("dead", "list", "--reason", "nan_input", "-o", "json").json
    assert [one["letter"] for one in only] == [first]
    result = mtld("dead", "list", "-n", 1)
    assert "wrong_shape" in result.out
    assert "1 of 2 kept" in result.err


def test_a_dead_letter_is_shown_with_its_payload_while_the_log_has_it(
    mtld: Mtld, server: Server
) -> None:
    letter, place = bury(server)
    found = mtld("dead", "show", letter, "-o", "json").json
    assert (found["reason"], found["original"]["start"], found["original"]["bytes"]) == (
        "nan_input",
        "éx",
        3,
    )
    assert f"mtld dead replay {letter}" in mtld("dead", "show", letter).out
    server.admin.call("XDEL", KEYS.events, place)
    assert mtld("dead", "show", letter, "-o", "json").json["original"] is None
    assert "no longer in the log" in mtld("dead", "show", letter).out


def test_a_replay_appends_the_event_one_hop_further(mtld: Mtld, server: Server) -> None:
    letter, _ = bury(server)
    dry = mtld("dead", "replay", letter, "--dry-run", "-o", "json")
    assert (dry.code, dry.json[0]["entry"], len(events(server))) == (0, "would be sent", 1)
    assert mtld("dead", "replay", letter).code == 0
    assert [(one[b"id"], one[b"mtlhop"]) for one in events(server)] == [(b"7", b"0"), (b"7", b"1")]


def test_all_of_one_reason_are_replayed_oldest_first(mtld: Mtld, server: Server) -> None:
    letters = [bury(server)[0], bury(server, "wrong_shape")[0], bury(server)[0]]
    found = mtld("dead", "replay", "--all", "--reason", "nan_input", "-o", "json").json
    assert [one["letter"] for one in found] == [letters[0], letters[2]]


def test_what_cannot_be_replayed_is_refused_and_the_rest_is_sent(
    mtld: Mtld, server: Server
) -> None:
    worn, fresh = bury(server, hop="3")[0], bury(server)[0]
    result = mtld("dead", "replay", worn, fresh, "-o", "json")
    assert result.code == 7
    assert [bool(one["error"]) for one in result.json] == [True, False]
    assert "1 of 2 were not replayed" in result.err


@pytest.mark.parametrize(
    "words", [["show", "abc"], ["replay"], ["replay", "1-1", "--all"], ["replay", "1"]]
)
def test_a_letter_must_be_named_as_the_list_names_it(
    mtld: Mtld, server: Server, words: list[str]
) -> None:
    assert mtld("dead", *words).code == 2
    assert mtld("dead", "show", "1-1").code == 7


# -- tail -----------------------------------------------------------------------------------------------------


def journal(server: Server, kind: str, **detail: object) -> str:
    return add(
        server,
        KEYS.journal,
        seq="1:1",
        kind=kind,
        at="2026-01-01T00:00:00.000+00:00",
        detail=json.dumps(detail),
    )


def test_the_journal_is_told_oldest_first(mtld: Mtld, server: Server) -> None:
    assert mtld("tail").out == "no line yet\n"
    for n in range(3):
        journal(server, "task_switched", task=f"t{n}")
    journal(server, "paused", reason="disk")
    found = mtld("tail", "-n", 3, "-o", "json").json
    assert [(one["kind"], one["detail"]) for one in found] == [
        ("task_switched", {"task": "t1"}),
        ("task_switched", {"task": "t2"}),
        ("paused", {"reason": "disk"}),
    ]
    assert mtld("tail", "--kind", "paused").out == "2026-01-01T00:00:00Z  paused  reason disk\n"


def test_following_goes_on_with_new_lines(
    mtld: Mtld, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from daemon.journal import Journal

    journal(server, "paused")
    after, rounds = Journal.after, iter(["resumed", "stop"])

    def then(self: Journal, line_id: str) -> Any:
        kind = next(rounds)
        if kind == "stop":
            raise KeyboardInterrupt
        journal(server, kind)
        return after(self, line_id)

    monkeypatch.setattr(Journal, "after", then)
    result = mtld("tail", "-f", "-o", "json")
    assert result.code == 0  # Ctrl-C is how one stops following
    assert [json.loads(line)["kind"] for line in result.out.splitlines()] == ["paused", "resumed"]


# -- where the server is --------------------------------------------------------------------------------------


def test_the_server_is_found_in_the_vitals_and_the_namespace_too(
    mtld: Mtld, server: Server, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MTLD_REDIS_URL")
    tell(broker=f"valkey 9.1.2 {server.url}", namespace="elsewhere")
    assert mtld("task", "switch", "a").code == 0
    assert server.admin.call("XLEN", Keys.of("elsewhere").events) == 1


def test_a_password_in_an_url_is_refused_before_anything_is_sent(
    mtld: Mtld, server: Server
) -> None:
    result = mtld("tail", "--redis-url", "redis://:secret@h")
    assert result.code == 2
    assert "secret" not in result.err
