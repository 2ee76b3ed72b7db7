"""What waits to leave: numbered, kept in order, and forgotten exactly when the server has taken it."""

from __future__ import annotations

import json

import pytest

from daemon import outbox as module
from daemon.outbox import Outbox


def _outbox(*epochs: int) -> Outbox:
    """One dead letter for each epoch named, in this order."""
    box = Outbox()
    for number, epoch in enumerate(epochs):
        box.epoch = epoch
        box.add("dead", {"number": number})
    return box


def _numbers(box: Outbox) -> list[int]:
    return [item.body["number"] for item in box.up_to(box.last_seq)]


def test_items_are_numbered_in_the_order_they_arose() -> None:
    box = _outbox(1, 1, 2)
    assert [item.mark for item in box.up_to(box.last_seq)] == ["1:1", "1:2", "2:3"]
    assert box.last_seq == 3


def test_only_items_up_to_a_number_may_leave() -> None:
    assert [item.seq for item in _outbox(1, 1, 1, 1).up_to(2)] == [1, 2]
    assert _outbox(1).up_to(0) == []


def test_at_most_so_many_leave_at_once_oldest_first() -> None:
    assert [item.seq for item in _outbox(*[1] * 9).up_to(9, limit=4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("mark", "left"),
    [
        (None, [0, 1, 2, 3]),
        ("0:99", [0, 1, 2, 3]),
        ("1:1", [1, 2, 3]),
        ("1:2", [2, 3]),
        ("1:99", [2, 3]),
        ("2:3", [3]),
        ("2:99", []),
        ("3:0", []),
    ],
)
def test_a_mark_covers_its_epoch_up_to_its_number_and_all_epochs_before(
    mark: str | None, left: list[int]
) -> None:
    box = _outbox(1, 1, 2, 2)
    box.drop_covered(mark)
    assert _numbers(box) == left


def test_a_lost_timeline_s_mark_does_not_cover_what_the_new_epoch_adds() -> None:
    box = _outbox(1, 1)
    box.epoch = 2
    box.add("dead", {"number": 2})
    box.drop_covered("1:900")
    assert _numbers(box) == [2]


def test_numbers_are_never_used_again() -> None:
    box = _outbox(1, 1)
    box.drop_covered("1:2")
    box.add("dead", {"number": 2})
    assert [item.mark for item in box.up_to(99)] == ["1:3"]


def test_covering_twice_changes_nothing() -> None:
    box = _outbox(1, 1, 1)
    for _ in range(2):
        box.drop_covered("1:2")
        assert _numbers(box) == [2]


def test_saved_as_json_and_loaded_it_holds_the_same_items() -> None:
    box = _outbox(1, 1, 2)
    box.drop_covered("1:1")
    other = Outbox()
    other.load_state_dict(json.loads(json.dumps(box.state_dict())))
    assert other.up_to(9) == box.up_to(9)
    assert other.state_dict() == box.state_dict()
    other.add("journal", {"kind": "x"})
    assert other.up_to(9)[-1].mark == "2:4"


def test_the_state_does_not_change_when_items_are_added_after_it_was_taken() -> None:
    box = _outbox(1)
    state = box.state_dict()
    box.add("dead", {"number": 1})
    assert (state["next_seq"], len(state["items"])) == (2, 1)


def test_a_full_outbox_says_so_until_something_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 3)
    box = _outbox(1, 1, 1)
    assert box.is_full
    box.drop_covered("1:1")
    assert not box.is_full
    assert len(box) == 2


def test_the_last_journal_lines_stay_visible_after_they_left() -> None:
    box = Outbox()
    for number in range(20):
        box.add("journal", {"kind": f"line-{number}"})
    box.add("dead", {"kind": "not a line"})
    box.drop_covered("1:99")
    assert [line["kind"] for line in box.recent] == [f"line-{n}" for n in range(12, 20)]
    assert all("at" in line for line in box.recent)


def test_the_last_dead_letters_are_shown_beside_them_and_all_are_counted_by_reason() -> None:
    box = Outbox()
    box.add("journal", {"kind": "first"})
    for number in range(20):
        box.add("dead", {"id": f"{number}-0", "reason": "odd" if number % 2 else "even"})
    box.add("journal", {"kind": "last"})
    shown = box.newest()
    assert [line["kind"] for line in shown] == ["first", *["dead_letter"] * 8, "last"]
    assert [line["id"] for line in shown[1:-1]] == [f"{number}-0" for number in range(12, 20)]
    assert box.dead_reasons == {"even": 10, "odd": 10}
