"""Task events that are sent, only looked at, or waited for; and the typed confirmation of what cannot be undone."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest

from daemon.commands.confirm import confirmed
from daemon.errors import Refused
from daemon.sources.link import Keys, pairs
from daemon.types import Json, Vitals
from tests.daemon.commands.conftest import Mtld
from tests.support.servers import Server

Tell = Callable[..., Vitals]

KEYS = Keys.of("default")
FOREVER = "9999999999999-0"  # a watermark beyond every entry
TASK: Json = {"name": "a", "modality": "text", "kind": "classification", "share": 1.0}


def events(server: Server) -> list[dict[bytes, bytes]]:
    return [pairs(row[1]) for row in server.admin.call("XRANGE", KEYS.events, "-", "+")]


@pytest.fixture
def then(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What the daemon tells the next time somebody waits for it."""

    def told(**facts: object) -> None:
        monkeypatch.setattr("daemon.commands.sending.time.sleep", lambda _: tell(**facts))

    return told


# -- wait -----------------------------------------------------------------------------------------------------


@pytest.mark.redis
def test_waiting_returns_when_the_daemon_has_read_past_the_entry(
    mtld: Mtld, server: Server, tell: Tell, then: Callable[..., None]
) -> None:
    tell()
    then(watermark=FOREVER, counters={"dead_events": 0})
    result = mtld("task", "switch", "a", "--phase", "p2", "--wait", "-o", "json")
    assert (result.code, result.json["applied"]) == (0, True)
    assert result.json["entry"] == server.admin.call("XRANGE", KEYS.events, "-", "+")[0][0].decode()


@pytest.mark.redis
def test_a_watermark_short_of_the_entry_is_not_enough(
    mtld: Mtld, server: Server, tell: Tell
) -> None:
    tell(watermark="1-0", tasks=[TASK], task="a")
    result = mtld("task", "switch", "a", "--wait", "--timeout", "0.1")
    assert result.code == 6
    assert "not applied after 0.1 s" in result.err


@pytest.mark.redis
def test_waiting_for_a_daemon_that_is_paused_says_so(
    mtld: Mtld, server: Server, tell: Tell
) -> None:
    tell(state="paused")
    result = mtld("task", "switch", "a", "--wait", "--timeout", "0.1")
    assert (result.code, "`mtld resume`" in result.err) == (6, True)


@pytest.mark.redis
def test_waiting_ends_with_the_reason_when_the_daemon_refuses(
    mtld: Mtld, server: Server, tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell()

    def refuse(_: float) -> None:
        (row,) = server.admin.call("XRANGE", KEYS.events, "-", "+")
        letter = {"id": row[0].decode(), "reason": "unknown_task", "message": "no such"}
        tell(watermark=FOREVER, counters={"dead_events": 1}, events=[letter])

    monkeypatch.setattr("daemon.commands.sending.time.sleep", refuse)
    result = mtld("task", "switch", "a", "--wait")
    assert result.code == 7
    assert "refused it, unknown_task: no such" in result.err


@pytest.mark.redis
def test_another_event_that_is_refused_meanwhile_is_told_apart_by_the_effect(
    mtld: Mtld, server: Server, tell: Tell, then: Callable[..., None]
) -> None:
    tell()
    then(watermark=FOREVER, counters={"dead_events": 1}, task="a")
    assert mtld("task", "switch", "a", "--wait").code == 0
    tell()
    then(watermark=FOREVER, counters={"dead_events": 1}, task="b")
    result = mtld("task", "switch", "a", "--wait")
    assert (result.code, "`mtld dead list` says why" in result.err) == (7, True)


@pytest.mark.redis
def test_waiting_ends_when_nobody_runs(mtld: Mtld, server: Server, tell: Tell) -> None:
    tell(pid=0)
    assert mtld("task", "switch", "a", "--wait").code == 3


@pytest.mark.redis
def test_waiting_for_a_daemon_of_another_stream_is_refused_before_anything_is_sent(
    mtld: Mtld, server: Server, tell: Tell
) -> None:
    tell(namespace="default")
    result = mtld("task", "switch", "a", "--wait", "--namespace", "other")
    assert (result.code, "which reads stream 'default'" in result.err) == (2, True)
    assert server.admin.call("EXISTS", Keys.of("other").events) == 0


# -- dry run and values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["add", "a", "--modality", "text"],
        ["switch", "a"],
        ["update", "a", "--share", "2"],
        ["retire", "a"],
    ],
    ids=" ".join,
)
def test_a_dry_run_says_what_would_be_written_and_asks_no_server(
    mtld: Mtld, words: list[str]
) -> None:
    url = ["--redis-url", "redis://127.0.0.1:1"]
    result = mtld("task", *words, "--dry-run", *url)
    assert (result.code, "would write to stream default" in result.out) == (0, True)
    assert mtld("task", *words, "--dry-run", *url, "-o", "json").json["entry"] is None


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999", "[1, NaN]", "[-1e999]"])
def test_a_setting_that_is_not_finite_is_a_usage_error(mtld: Mtld, value: str) -> None:
    result = mtld("task", "add", "a", "--modality", "text", "--set", f"share={value}")
    assert (result.code, "must be finite" in result.err) == (2, True)
    assert mtld("task", "update", "a", "--share", "nan").code == 2
    assert mtld("task", "update", "a", "--tolerance", "2").code == 2


@pytest.mark.redis
def test_an_update_carries_only_what_was_given(mtld: Mtld, server: Server, tell: Tell) -> None:
    assert mtld("task", "update", "a").code == 2
    assert mtld("task", "update", "a", "--share", "2", "--loss-weight", "0.5").code == 0
    (event,) = events(server)
    assert event[b"type"] == b"mtl.task.update.v1"
    assert json.loads(event[b"data"]) == {"share": 2.0, "loss_weight": 0.5}


@pytest.mark.redis
def test_a_decision_is_one_of_two_words(mtld: Mtld, server: Server, tell: Tell) -> None:
    refused = mtld("task", "update", "a", "--decision", "priors")
    assert (refused.code, "did you mean 'prior'?" in refused.err) == (2, True)
    assert mtld("task", "update", "a", "--decision", "prior").code == 0
    (event,) = events(server)
    assert json.loads(event[b"data"]) == {"decision": "prior"}


@pytest.mark.redis
def test_a_task_that_the_daemon_does_not_know_is_sent_with_a_warning(
    mtld: Mtld, server: Server, tell: Tell
) -> None:
    tell(tasks=[{**TASK, "name": "fashion"}])
    result = mtld("task", "switch", "fasion")
    assert (result.code, "did you mean 'fashion'?" in result.err) == (0, True)
    assert len(events(server)) == 1


def test_the_ranges_of_an_update_are_those_of_the_engine() -> None:
    from daemon.commands.task import update
    from mtl_engine.types import _FACTORS, UPDATABLE

    numbers = [name for name in UPDATABLE if name in _FACTORS]
    options = {name: update.__annotations__[name].__metadata__[0] for name in numbers}
    assert {name: (one.min, one.max) for name, one in options.items()} == {
        name: (0, _FACTORS[name]) for name in numbers
    }


# -- confirmation -----------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "accepted"), [("mood\n", True), ("moo\n", False), ("", False)])
def test_at_a_terminal_the_name_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    typed: str,
    accepted: bool,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    if accepted:
        confirmed("it is gone then", "mood", None)
    else:
        with pytest.raises(Refused, match="nothing was changed"):
            confirmed("it is gone then", "mood", None)
    assert capsys.readouterr().err == "it is gone then\nType mood to go on: "


def test_where_nobody_can_be_asked_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("mood\n"))
    with pytest.raises(Refused, match="say --confirm mood if that is meant"):
        confirmed("it is gone then", "mood", None)
    confirmed("it is gone then", "mood", "mood")
    with pytest.raises(Refused, match="nothing was changed"):
        confirmed("it is gone then", "mood", "moo")
