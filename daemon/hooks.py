"""Tells others of a promotion: runs a program, POSTs to a web hook, or both; in a thread of its own, until it works.

Contract with whoever is told. The event is one JSON object with at least `version` (int), `path` (the snapshot's
directory) and `reason`. A program gets it on stdin, and MTLD_VERSION, MTLD_PATH and MTLD_REASON in its environment; exit
code 0 is success. A web hook gets it as the body of a POST, with `sent_at` (RFC 3339) inside and the header
`X-Mtld-Signature: sha256=HEX`, the HMAC-SHA256 of the body under the key in `secret_file`; any 2xx is success, and
redirects are not followed. Delivery is at least once: the same version may come again after a crash, so act on it twice
as if once. Only the newest event counts: one that waits, or is tried again, gives way to the next.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import signal
import subprocess
import tempfile
import threading
from contextlib import suppress
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from daemon import finite

if TYPE_CHECKING:
    from collections.abc import Callable

    from daemon.config import Hook
    from daemon.types import Json

SIGNATURE = "X-Mtld-Signature"
BACK_OFF_S = (1.0, 60.0)  # first and longest wait between two tries
_DETAIL_BYTES = 300  # of what a program said on stderr, the end


class HookFailed(Exception):
    """One try of one hook did not succeed; the message says how."""


class Hooks:
    """`notify` returns at once; `report(ok, detail)` is called once for every hook and event, from the hooks' thread.

    After a start, call `notify` again with the present champion if its hook is not known to have succeeded.
    """

    def __init__(self, settings: Hook, report: Callable[[bool, str], None]) -> None:
        self._settings = settings
        self._report = report
        self._hooks = {name: hook for name, given, hook in (
            ("exec", settings.exec, self._exec), ("webhook", settings.webhook, self._webhook),
        ) if given}  # fmt: skip
        self._changed = threading.Condition()
        self._waiting: Json | None = None
        self._closing = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, name="hooks", daemon=True)
        if self._hooks:
            self._thread.start()

    def notify(self, event: Json) -> None:
        """Tell of this event next; one that still waits is given up and reported so."""
        if not {"version", "path", "reason"} <= event.keys():
            raise ValueError(f"an event of a promotion has version, path and reason: found {event}")
        if not self._hooks:
            return
        with self._changed:
            given_up, self._waiting = self._waiting, event
            self._changed.notify_all()
        if given_up is not None:
            self._report(False, f"{_name(given_up)} gave way to {_name(event)} before it was told")

    def close(self, timeout_s: float) -> None:
        """Let what is being tried end within `timeout_s`, then kill it; what still waits is told after the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        process = self._process
        if self._thread.is_alive() and process is not None:
            _kill(process)
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._waiting is not None)
                event, self._waiting = self._waiting, None
                if self._closing or event is None:
                    return
            for name, hook in self._hooks.items():
                self._report(*self._deliver(name, hook, event))

    def _deliver(self, name: str, hook: Callable[[Json], None], event: Json) -> tuple[bool, str]:
        """Try until it works, the tries are used up, or something newer is to be told."""
        wait_s, detail, tries = BACK_OFF_S[0], "", 0
        while tries < self._settings.tries:
            tries += 1
            try:
                hook(event)
            except (HookFailed, OSError, HTTPException, ValueError) as error:
                detail = f"{error or type(error).__name__}"
            else:
                return True, f"{name} told of {_name(event)}"
            with self._changed:
                if tries < self._settings.tries and self._changed.wait_for(
                    lambda: self._closing or self._waiting is not None, wait_s
                ):
                    break
            wait_s = min(2 * wait_s, BACK_OFF_S[1])
        return False, f"{name} of {_name(event)} failed {tries} times: {detail}"

    def _exec(self, event: Json) -> None:
        """Runs in a session of its own, so that a time-out ends everything it started."""
        told = {"MTLD_VERSION": event["version"], "MTLD_PATH": event["path"], "MTLD_REASON": event["reason"]}  # fmt: skip
        environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
        with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stderr:
            stdin.write(finite.dumps(event, default=str).encode())
            stdin.seek(0)
            process = subprocess.Popen(  # noqa: S603  (the operator's own program, from the settings)
                self._settings.exec, stdin=stdin, stdout=subprocess.DEVNULL, stderr=stderr,
                env=environment, start_new_session=True,
            )  # fmt: skip
            self._process = process
            try:
                code = process.wait(self._settings.timeout_s)
            except subprocess.TimeoutExpired:
                raise HookFailed(f"no end within {self._settings.timeout_s:g} s; killed") from None
            finally:
                _kill(process)
                self._process = None
            if code:
                stderr.seek(max(stderr.seek(0, os.SEEK_END) - _DETAIL_BYTES, 0))
                said = stderr.read().decode(errors="replace").strip()
                raise HookFailed(f"exit code {code}{f': {said}' if said else ''}")

    def _webhook(self, event: Json) -> None:
        body = finite.dumps(
            {**event, "sent_at": datetime.now(UTC).isoformat()}, default=str
        ).encode()
        headers = {"Content-Type": "application/json", "User-Agent": "mtld"}
        if self._settings.secret_file is not None:
            headers[SIGNATURE] = signature(self._settings.secret_file.read_bytes().strip(), body)
        parts = urlsplit(str(self._settings.webhook))
        kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        connection = kind(str(parts.hostname), parts.port, timeout=self._settings.timeout_s)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("POST", target, body, headers)
            status = connection.getresponse().status
        finally:
            connection.close()
        if not 200 <= status < 300:
            raise HookFailed(f"the server answered {status}")


def signature(secret: bytes, body: bytes) -> str:
    """The value of the signature header; compare it with `hmac.compare_digest`."""
    return f"sha256={hmac.new(secret, body, hashlib.sha256).hexdigest()}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a program and what it left behind in its session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _name(event: Json) -> str:
    return f"v{int(event['version']):06d}"
