"""Every fault of a log, on every kind of log: detected, named, the loss counted, and the reading goes on.

In each the new events have ids above the watermark, so comparing ids alone would notice nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from daemon.identity import FIRST_ID, id_tuple
from daemon.reader import Position, StreamRegressed
from tests.support.drivers import add_many, event
from tests.support.following import Follower, add_above, following

if TYPE_CHECKING:
    from tests.support.drivers import Driver


def test_every_entry_is_read_once_in_order_and_nothing_is_lost(log: Driver) -> None:
    follower = following(log, 0)
    ids = add_many(log, 30)
    follower.reader.fence()
    follower.apply(7)
    ids += add_many(log, 5)
    assert follower.settle() == 0
    assert follower.applied == ids
    assert follower.reader.position.n == 35


def test_entries_that_were_not_applied_come_again(log: Driver) -> None:
    follower = following(log, 2)
    ids = add_many(log, 3)
    assert [entry.id for entry in follower.reader.read(10)] == ids
    assert follower.apply() == ids


def test_a_foreign_trim_past_the_watermark_is_counted_exactly(log: Driver) -> None:
    follower = following(log, 5)
    ids = add_many(log, 10)
    log.trim_to(ids[7])
    add_above(log, ids[-1], 2)
    assert follower.settle() == 7
    assert len(follower.applied) == 5 + 5
    add_many(log, 3)
    assert follower.settle() == 7


def test_a_foreign_trim_of_everything_is_counted_exactly(log: Driver) -> None:
    follower = following(log, 5)
    ids = add_many(log, 4)
    log.trim_to(f"{id_tuple(ids[-1])[0] + 1}-0")
    assert follower.settle() == 4
    follower.display()
    add_above(log, ids[-1], 3)
    assert follower.settle() == 4
    assert follower.reader.position.n == 12


@pytest.mark.parametrize("which", [(0,), (9,), (0, 9), (3, 4, 5), tuple(range(10))])
def test_unread_entries_that_were_deleted_are_counted_exactly(
    log: Driver, which: tuple[int, ...]
) -> None:
    follower = following(log, 5)
    ids = add_many(log, 10)
    log.delete(*(ids[i] for i in which))
    assert follower.settle() == len(which)
    add_above(log, ids[-1], 2)
    assert follower.settle() == len(which)
    assert len(follower.applied) == 5 + 10 - len(which) + 2


def test_a_loss_is_counted_when_the_fences_own_entry_is_gone_and_later_ones_follow(
    log: Driver,
) -> None:
    follower = following(log, 5)
    ids = add_many(log, 4)
    follower.reader.fence()
    log.delete(ids[3])
    add_above(log, ids[-1], 2)
    follower.apply()
    assert follower.lost == 1
    assert follower.settle() == 1


def test_deleting_entries_that_were_applied_loses_nothing(log: Driver) -> None:
    follower = following(log, 5)
    log.delete(*follower.applied)
    assert follower.settle() == 0
    add_many(log, 2)
    assert follower.settle() == 0
    assert len(follower.applied) == 7


def test_a_group_that_was_destroyed_alone_is_made_again_and_named(log: Driver) -> None:
    follower = following(log, 5)
    log.destroy_group()
    add_many(log, 2)
    assert follower.settle() == 0
    assert follower.display()
    assert not follower.display()
    assert follower.source.bounds().group_entries_read == 7


@pytest.mark.parametrize("num_new", [1, 4, 9, 30])
@pytest.mark.parametrize("how", ["flush", "delete_stream"])
def test_a_stream_made_anew_is_a_regression_however_many_entries_it_has(
    log: Driver, how: str, num_new: int
) -> None:
    follower = following(log, 5)
    unread = add_many(log, 4)
    follower.reader.fence()
    {"flush": log.flush, "delete_stream": log.delete_stream}[how]()
    new = add_above(log, unread[-1], num_new)
    with pytest.raises(StreamRegressed) as caught:
        follower.apply()
    assert caught.value.lost_at_least == 4
    assert follower.reader.regress([]).id == FIRST_ID
    assert follower.settle() == 0
    assert follower.applied[5:] == new
    follower.display()
    assert follower.source.bounds().group_last_id == new[-1]


def test_showing_the_position_never_hides_that_the_stream_was_made_anew(log: Driver) -> None:
    follower = following(log, 5)
    log.flush()
    add_above(log, follower.applied[-1], 9)
    with pytest.raises(StreamRegressed, match="group"):
        follower.display()
    assert follower.source.bounds().group_last_id is None


def test_a_stream_made_anew_before_anything_was_applied_is_a_regression(log: Driver) -> None:
    follower = following(log, 0)
    old = add_many(log, 4)
    follower.reader.fence()
    log.flush()
    new = add_above(log, old[-1], 9)
    with pytest.raises(StreamRegressed) as caught:
        follower.reader.fence()
    assert caught.value.lost_at_least == 4
    follower.reader.regress([])
    follower.settle()
    assert follower.applied == new


def test_what_a_new_stream_has_lost_before_we_noticed_is_counted(log: Driver) -> None:
    follower = following(log, 20)
    log.flush()
    new = add_above(log, follower.applied[-1], 9)
    log.trim_to(new[6])
    with pytest.raises(StreamRegressed):
        follower.apply()
    follower.reader.regress([])
    assert follower.settle() == 6
    assert follower.applied[20:] == new[6:]


def test_a_stream_with_lower_ids_is_a_regression(log: Driver) -> None:
    follower = following(log, 5)
    log.delete_stream()
    for number in range(1, 20):
        log.add(entry_id=f"{number}-0")
    with pytest.raises(StreamRegressed, match="below the watermark"):
        follower.apply()
    follower.reader.regress([])
    assert len(follower.apply()) == 19


def test_another_event_in_the_watermarks_place_is_a_regression(log: Driver) -> None:
    follower = following(log, 5)
    watermark = follower.applied[-1]
    log.delete_stream()
    log.add(event(), entry_id=watermark)
    add_above(log, watermark, 9)
    with pytest.raises(StreamRegressed, match="not the one applied"):
        follower.apply()
    follower.reader.regress([])
    assert len(follower.apply()) == 10


def test_a_group_set_back_by_somebody_is_a_regression_that_loses_nothing(log: Driver) -> None:
    follower = following(log, 5)
    ids = add_many(log, 3)
    follower.source.display(follower.applied[1], 2)
    with pytest.raises(StreamRegressed, match="group shows") as caught:
        follower.settle()
    assert caught.value.lost_at_least == 0
    assert follower.reader.regress([]).id == follower.applied[-1]
    assert follower.settle() == 0
    assert follower.applied[5:] == ids


def test_going_back_takes_the_newest_watermark_that_still_exists(log: Driver) -> None:
    follower = following(log, 0)
    events = [event() for _ in range(8)]
    retained: list[Position] = [follower.reader.position]
    for fields in events:
        log.add(fields)
        follower.apply()
        retained.append(follower.reader.position)
    follower.display()
    log.delete_stream()
    for fields, entry_id in zip(events[:5], follower.applied[:5], strict=True):
        log.add(fields, entry_id)
    new = add_above(log, follower.applied[-1], 9)
    with pytest.raises(StreamRegressed):
        follower.apply()
    assert follower.reader.regress(retained).id == follower.applied[4]
    assert follower.reader.position.n == 5
    assert follower.settle() == 0
    assert follower.applied[8:] == new


def test_a_regression_is_found_after_a_restart_too(log: Driver) -> None:
    follower = following(log, 5)
    add_many(log, 4)
    follower.reader.fence()
    log.flush()
    add_above(log, follower.applied[-1], 50)
    restarted = Follower(follower.source, follower.reader.position, follower.applied[-1])
    with pytest.raises(StreamRegressed) as caught:
        restarted.apply()
    assert caught.value.lost_at_least == 4


def test_a_restart_goes_on_where_the_position_says(log: Driver) -> None:
    follower = following(log, 5)
    ids = add_many(log, 4)
    log.delete(ids[1])
    restarted = Follower(follower.source, follower.reader.position, follower.applied[-1])
    assert restarted.settle() == 1
    assert restarted.applied == [ids[0], *ids[2:]]
