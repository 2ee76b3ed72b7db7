"""The ring of event keys: what it remembers, what it forgets, and that a checkpoint of it loses nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import dedup
from daemon.dedup import Ring
from daemon.errors import IntegrityError
from tests.support.core import key_of


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.setattr(dedup, "SEGMENT_KEYS", 4)


def _ring(capacity: int, count: int) -> Ring:
    ring = Ring(capacity)
    for number in range(count):
        ring.add(key_of(number))
    return ring


def _remembered(ring: Ring, among: int) -> list[int]:
    return [number for number in range(among) if ring.check(key_of(number)) == "duplicate"]


def _saved(ring: Ring) -> dict[str, np.ndarray]:
    return {name: keys.copy() for name, (_, keys) in ring.segments().items()}


def _loaded(ring: Ring, capacity: int) -> Ring:
    other = Ring(capacity)
    other.load(ring.added, _saved(ring))
    return other


def test_a_key_is_new_once_and_a_duplicate_after() -> None:
    ring = Ring(8)
    assert ring.check(key_of(1)) == "new"
    ring.add(key_of(1))
    assert ring.check(key_of(1)) == "duplicate"


def test_a_known_name_with_another_payload_is_reused() -> None:
    ring = _ring(8, 2)
    assert ring.check(key_of(1, says=5)) == "reused"
    assert ring.check(key_of(2, says=5)) == "new"


def test_a_refused_payload_of_a_known_name_is_a_duplicate_when_it_comes_again() -> None:
    ring = _ring(8, 2)
    ring.add(key_of(1, says=5))
    assert [ring.check(key_of(1, says=said)) for said in (0, 5, 6)] == [
        "duplicate",
        "duplicate",
        "reused",
    ]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30), st.integers(1, 6))
def test_what_a_ring_answers_depends_only_on_the_keys_in_it(
    sent: list[tuple[int, int]], capacity: int
) -> None:
    ring, kept = Ring(capacity), list[tuple[int, int]]()
    for name, says in sent:
        known = "reused" if name in {one for one, _ in kept} else "new"
        expected = "duplicate" if (name, says) in kept else known
        for one in (ring, _loaded(ring, capacity)):
            assert one.check(key_of(name, says)) == expected
        if expected != "duplicate":
            ring.add(key_of(name, says))
            kept = [*kept, (name, says)][-capacity:]


def test_checking_remembers_nothing() -> None:
    ring = Ring(8)
    assert [ring.check(key_of(1)) for _ in range(2)] == ["new", "new"]


def test_a_full_ring_forgets_the_oldest_key_and_only_that() -> None:
    ring = _ring(10, 10)
    for number in range(10, 35):
        ring.add(key_of(number))
        assert _remembered(ring, 40) == list(range(number - 9, number + 1))


@pytest.mark.parametrize("count", range(26))
def test_saved_and_loaded_at_any_fill_it_goes_on_as_if_nothing_had_happened(count: int) -> None:
    kept = _ring(10, count)
    loaded = _loaded(kept, 10)
    assert not loaded.is_rearranged
    for number in range(count, count + 23):
        assert _remembered(loaded, 60) == _remembered(kept, 60)
        assert loaded.added == kept.added
        for ring in (loaded, kept):
            ring.add(key_of(number))
    for name, (version, keys) in kept.segments().items():
        assert loaded.segments()[name][0] == version
        np.testing.assert_array_equal(loaded.segments()[name][1], keys)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 13), st.integers(1, 13), st.integers(0, 40), st.integers(0, 20))
def test_a_ring_of_another_capacity_keeps_the_newest_keys(
    before: int, after: int, count: int, more: int
) -> None:
    ring = _loaded(_ring(before, count), after)
    held = min(before, after, count)
    assert _remembered(ring, 80) == list(range(count - held, count))
    for number in range(count, count + more):
        ring.add(key_of(number))
    held = min(after, held + more)
    assert _remembered(ring, 80) == list(range(count + more - held, count + more))
    assert _remembered(_loaded(ring, after), 80) == _remembered(ring, 80)


@pytest.mark.parametrize(("after", "moved"), [(16, True), (12, True), (6, True), (10, False)])
def test_it_says_whether_its_slots_are_as_they_were_saved(after: int, moved: bool) -> None:
    assert _loaded(_ring(10, 15), after).is_rearranged is moved


def test_versions_move_exactly_when_the_keys_of_a_segment_do() -> None:
    ring = Ring(10)
    before = {name: (version, keys.copy()) for name, (version, keys) in ring.segments().items()}
    for number in range(47):
        ring.add(key_of(number))
        now = {name: (version, keys.copy()) for name, (version, keys) in ring.segments().items()}
        moved = {name for name in now if before.get(name, (-1,))[0] != now[name][0]}
        changed = {
            name
            for name in now
            if name not in before or not np.array_equal(before[name][1], now[name][1])
        }
        assert moved == changed == {f"ring-{number % 10 // 4}"}
        before = now


def test_one_new_key_rewrites_one_segment_of_many() -> None:
    ring = _ring(40, 40)
    before = ring.segments()
    versions = {name: version for name, (version, _) in before.items()}
    ring.add(key_of(40))
    moved = [name for name, (version, _) in ring.segments().items() if versions[name] != version]
    assert (len(before), moved) == (10, ["ring-0"])


def test_segments_load_in_the_order_of_their_numbers_and_not_of_their_names() -> None:
    ring = _ring(48, 48)
    assert "ring-11" in ring.segments()
    shuffled = dict(sorted(_saved(ring).items(), reverse=True))
    loaded = Ring(20)
    loaded.load(ring.added, shuffled)
    assert _remembered(loaded, 60) == list(range(28, 48))


@pytest.mark.parametrize(
    "segments",
    [{"ring-0": np.zeros((5, 32), np.uint8)}, {"ring-0": np.zeros((2, 31), np.uint8)}],
    ids=["more keys than were added", "keys of a wrong width"],
)
def test_a_ring_that_cannot_be_is_refused(segments: dict[str, np.ndarray]) -> None:
    with pytest.raises(IntegrityError, match="ring has"):
        Ring(8).load(4, segments)
