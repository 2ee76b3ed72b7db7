"""How far the daemon is behind, for producers: the group's lag, never the length of a log that keeps its past."""

from __future__ import annotations

from typing import TYPE_CHECKING

from daemon.errors import BrokerUnreachable
from daemon.sources.link import checked, is_error, pairs
from daemon.sources.redis_streams import GROUP

if TYPE_CHECKING:
    from daemon.sources.link import Link


def unread(link: Link, events: str) -> int:
    """Entries added and not yet covered by a durable checkpoint of the daemon.

    Where the server cannot say (`lag` is null after deletions) it is entries-added less entries-read. Before
    the daemon made its group nothing is read, so it is all that was ever added; a user who may not see that
    gets BrokerUnreachable and tries again.
    """
    groups = link.exchange([("XINFO", "GROUPS", events)])[0]
    if is_error(groups, "no such key"):
        return 0
    group = next(
        (row for row in map(pairs, checked(groups)) if row[b"name"] == GROUP.encode()), None
    )
    lag = group.get(b"lag") if group else None
    if lag is not None:
        return int(lag)
    stream = link.exchange([("XINFO", "STREAM", events)])[
        0
    ]  # returns whole entries, hence only if needed
    if is_error(stream, "no such key"):
        return 0
    if is_error(stream, "no permissions"):
        msg = f"the daemon has no group on {events} yet, and our user may not look at the log itself; start the daemon"
        raise BrokerUnreachable(msg)
    read = (group.get(b"entries-read") if group else None) or 0
    return max(0, int(pairs(checked(stream))[b"entries-added"]) - int(read))
