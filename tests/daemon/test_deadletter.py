"""Dead letters: listed newest first, shown with their event, sent again one hop further."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.deadletter import DeadLetters
from daemon.errors import Refused
from daemon.identity import FIRST_ID, event_key
from daemon.sources import redis_streams
from tests.support.drivers import RedisDriver, event, fake_driver
from tests.support.servers import NAMESPACE

if TYPE_CHECKING:
    from daemon.types import EventSource


@pytest.fixture
def log() -> RedisDriver:
    """A log on a fake server."""
    return fake_driver()


@pytest.fixture
def source(log: RedisDriver) -> EventSource:
    """The daemon's side of it."""
    source = log.source()
    source.acquire(0, 0.0)
    return source


@pytest.fixture
def letters(log: RedisDriver) -> DeadLetters:
    """The operator's side of it."""
    return DeadLetters(log.admin, NAMESPACE)


def bury(log: RedisDriver, source: EventSource, number: int, **more: str) -> str:
    """An event that the daemon refused; returns its place in the log."""
    entry_id = log.add(event(number, **more))
    source.deliver(
        [{"id": entry_id, "event_id": str(number), "reason": "nan_input", "rows": 2}],
        [],
        f"1:{number}",
    )
    return entry_id


def test_dead_letters_are_listed_newest_first(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    assert letters.newest(5) == []
    places = [bury(log, source, number) for number in range(3)]
    assert [letter.entry_id for letter in letters.newest(2)] == [places[2], places[1]]
    assert letters.newest(1)[0].fields["reason"] == "nan_input"


def test_a_dead_letter_is_shown_with_its_event(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    place = bury(log, source, 1)
    letter = letters.letter(letters.newest(1)[0].letter_id)
    original = letters.original(letter)
    assert original is not None
    assert (original.id, original.fields[b"data"]) == (place, b"x")


def test_a_replay_is_the_same_event_one_hop_further_and_no_duplicate(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    bury(log, source, 1)
    again = letters.replay(letters.newest(1)[0].letter_id)
    first, second = source.read(FIRST_ID, 9)
    assert second.id == again
    assert second.fields == {**first.fields, b"mtlhop": b"1"}
    assert event_key(first) != event_key(second)


def test_an_event_is_replayed_at_most_three_times(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    bury(log, source, 1, mtlhop="2")
    letters.replay(letters.newest(1)[0].letter_id)
    bury(log, source, 2, mtlhop="3")
    bury(log, source, 3, mtlhop="nonsense")
    for letter in letters.newest(2):
        with pytest.raises(Refused, match="at most 3"):
            letters.replay(letter.letter_id)


def test_an_event_that_left_the_log_cannot_be_replayed(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    log.delete(bury(log, source, 1))
    with pytest.raises(Refused, match="no longer in the log"):
        letters.replay(letters.newest(1)[0].letter_id)


def test_another_event_in_its_place_is_not_replayed(
    log: RedisDriver, source: EventSource, letters: DeadLetters
) -> None:
    place = bury(log, source, 1)
    log.delete_stream()
    log.add(event(2), entry_id=place)
    assert letters.original(letters.newest(1)[0]) is None


def test_an_unknown_dead_letter_is_refused(letters: DeadLetters) -> None:
    with pytest.raises(Refused, match="no dead letter 1-1"):
        letters.replay("1-1")


def test_evicted_dead_letters_are_counted(
    log: RedisDriver, source: EventSource, letters: DeadLetters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_streams, "DEAD_KEPT", 2)
    assert letters.totals() == (0, 0)
    for number in range(5):
        bury(log, source, number)
    assert letters.totals() == (2, 3)
