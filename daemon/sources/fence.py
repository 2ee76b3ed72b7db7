"""The fence on a Redis server: a write happens only while the lease is ours, checked in the same transaction."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, cast

from daemon.errors import BrokerFull, BrokerUnreachable, LeaseLost
from daemon.sources.lease import POLL_S, Lease
from daemon.sources.link import Command, Link, checked

TRIES = 20  # refused EXECs in a row before we give up; each means that somebody touched the lease


class Fence:
    """Holds one lease for one start of the process; every write goes through `run` or `run_outside`."""

    def __init__(self, link: Link, key: str, owner: str, ttl_s: float) -> None:
        self._link = link
        self._key = key
        self._owner = owner
        self._ttl_ms = int(ttl_s * 1000)
        self._nonce = secrets.token_hex(8)
        self._mine: Lease | None = None

    def acquire(self, own_token: int, takeover_wait_s: float) -> int:
        """Take the lease and return its token; our own of an earlier start at once, a foreign one once it expires."""
        deadline = time.monotonic() + takeover_wait_s
        pause = threading.Event()
        while True:
            taken = self._try(own_token)
            if isinstance(taken, int):
                return taken
            if time.monotonic() >= deadline:
                msg = (
                    f"the state directory {taken.uuid} holds the lease {self._key} with token {taken.token}; waited "
                    f"{takeover_wait_s:g} s. Stop that daemon, or give this one another namespace"
                )
                raise LeaseLost(msg)
            pause.wait(POLL_S)

    def _try(self, own_token: int) -> int | Lease:
        """Our token if the lease could be taken, else who has it."""
        with self._link.held():
            found = self._watch()
            while found is None or found.is_free_for(self._owner):
                mine = Lease(
                    max(own_token, found.token if found else 0) + 1, self._owner, self._nonce
                )
                if (
                    self._transaction([("SET", self._key, str(mine), "PX", self._ttl_ms)])
                    is not None
                ):
                    self._mine = mine
                    return mine.token
                found = self._watch()
            return found

    def renew(self) -> None:
        """Extend the lease by GET and plain PEXPIRE, which a server without memory still accepts."""
        with self._link.held():
            if self._holder() is None or not self._link.call("PEXPIRE", self._key, self._ttl_ms):
                self._retake()

    def release(self) -> None:
        """Give the lease back, keeping its token; what cannot be given back expires."""
        if self._mine is None:
            return
        released = str(Lease(self._mine.token))
        with suppress(
            BrokerUnreachable, LeaseLost
        ):  # gone or somebody else's: nothing is ours to release
            try:
                self.run([("SET", self._key, released)])
            except BrokerFull:
                self._link.call("PEXPIRE", self._key, 1)
        self._mine = None

    def run(self, commands: Sequence[Command], sent: Callable[[], None] | None = None) -> list[Any]:
        """Run commands in one MULTI while the lease is ours; returns their replies, errors among them included.

        After a lost reply BrokerUnreachable is raised and the commands may have run. `sent` is called when
        EXEC has left and its reply was not read.
        """
        with self._link.held():
            for _ in range(TRIES):
                found = self._watch()
                if found is None:
                    self._retake()  # this touches the watched key, so the round starts again
                    continue
                if found != self._mine:
                    self._refuse(found)
                replies = self._transaction(commands, sent)
                if replies is not None:
                    return replies
        msg = f"the lease {self._key} changed {TRIES} times while we tried to write; more than one writer is at work"
        raise LeaseLost(msg)

    def run_outside(self, *command: str | bytes | int) -> Any:
        """One command after GET and outside MULTI, for what a server without memory refuses inside.

        Where the lease is missing on a full server nobody can take it, so the command goes first and the
        lease is put back after it.
        """
        with self._link.held():
            holder = self._holder()
            reply = self._link.call(*command)
            if holder is None and self._mine is not None:
                self._retake()
        return reply

    def _watch(self) -> Lease | None:
        (_, value) = map(checked, self._link.exchange([("WATCH", self._key), ("GET", self._key)]))
        return Lease.parse(value)

    def _holder(self) -> Lease | None:
        """Us or nobody; LeaseLost for anybody else."""
        found = Lease.parse(self._link.call("GET", self._key))
        before_taking = self._mine is None and found is not None and found.is_free_for(self._owner)
        if not (found is None or found == self._mine or before_taking):
            self._refuse(found)
        return found

    def _refuse(self, found: Lease) -> NoReturn:
        ours = f"token {self._mine.token}" if self._mine else "not taken"
        msg = (
            f"the lease {self._key} is held by {found.uuid or 'nobody'} with token {found.token}, ours is {ours}: "
            f"another daemon took over and this one writes nothing more"
        )
        raise LeaseLost(msg)

    def _retake(self) -> None:
        """Put our lease back where there is none (expired, flushed); LeaseLost if somebody was quicker."""
        if self._mine is None:
            msg = f"the lease {self._key} was never taken by us; acquire it before writing"
            raise LeaseLost(msg)
        if self._link.call("SET", self._key, str(self._mine), "NX", "PX", self._ttl_ms) is None:
            self._holder()

    def _transaction(
        self, commands: Sequence[Command], sent: Callable[[], None] | None = None
    ) -> list[Any] | None:
        """MULTI ... EXEC in one packet; None where the watched lease had changed and nothing was executed."""
        *queued, done = self._link.exchange([("MULTI",), *commands, ("EXEC",)], sent)
        for reply in queued:
            checked(
                reply
            )  # a refusal at queueing says why, the EXEC after it only that there was one
        return cast("list[Any]", done) if isinstance(done, list) else checked(done)
