"""One connection to the server with nothing hidden: no client retries, raw replies, errors named by what to do next."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import redis
from redis import exceptions as server_errors
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from daemon.errors import (
    BrokerFull,
    BrokerUnreachable,
    ConfigError,
    DaemonError,
    IntegrityError,
    StreamExhausted,
)

if TYPE_CHECKING:
    from redis.connection import ConnectionPool

Command = Sequence[str | bytes | int]
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")
SENTINEL_PORT = 26379
# Of a URL's query, what says how to verify the server and which certificate is ours; redis-py takes them as they are.
SHOWN_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname", "db")

# What an error reply means to us, by its first words; the first match counts.
_MEANINGS: tuple[tuple[str, type[DaemonError]], ...] = (
    ("OOM", BrokerFull),
    ("command not allowed when used memory", BrokerFull),  # redis-py strips the OOM it knows
    ("MISCONF", BrokerFull),  # the server cannot write its own disk
    ("The stream has exhausted", StreamExhausted),
    ("ERR The stream has exhausted", StreamExhausted),
    ("WRONGTYPE", IntegrityError),
    ("NOAUTH", ConfigError),
    ("MOVED", ConfigError),
    ("READONLY", BrokerUnreachable),  # a demoted master: reconnecting asks Sentinel again
    ("You can't write against a read only replica", BrokerUnreachable),
    ("LOADING", BrokerUnreachable),
    ("MASTERDOWN", BrokerUnreachable),
    ("CLUSTERDOWN", BrokerUnreachable),
    ("TRYAGAIN", BrokerUnreachable),
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one namespace: all that we ever touch, in one hash slot (map in sources/redis_streams.py)."""

    events: str
    dead: str
    journal: str
    lease: str
    sent: str

    @classmethod
    def of(cls, namespace: str) -> Keys:
        """The keys of a namespace; braces would move them to another hash slot, so they are refused."""
        if not namespace or set(namespace) & set("{} \t\r\n"):
            msg = f"namespace {namespace!r} is not allowed: it must be non-empty, without braces and white space"
            raise ConfigError(msg)
        tag = f"mtl:{{{namespace}}}"
        return cls(f"{tag}:events", f"{tag}:dead", f"{tag}:journal", f"{tag}:lease", f"{tag}:sent")


class Wire(Protocol):
    """The part of a redis-py connection that we use; it is the same in redis-py 7 and 8 and in fakeredis."""

    def connect(self) -> None: ...
    def disconnect(self) -> None: ...
    def pack_commands(self, commands: Sequence[Command]) -> list[bytes]: ...
    def send_packed_command(self, command: list[bytes], check_health: bool) -> None: ...
    def read_response(self) -> Any: ...


def connect_options(timeout_s: float) -> dict[str, Any]:
    """Options of every connection of ours; redis-py's own defaults would retry ten times and hide lost replies."""
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, 5.0),
        "protocol": 2,  # replies are flat lists in every server version
    }


class Link:
    """Commands out, raw replies in, over one connection that is opened on first use and after each error.

    A connection error always surfaces as BrokerUnreachable, and the command may have been executed.
    """

    def __init__(self, pool: ConnectionPool, shown: str = "") -> None:
        self.shown = shown
        self.breaks = (
            0  # connections lost; what one of them was told to wait for, the next knows nothing of
        )
        self._pool = pool  # a Sentinel connection only holds a weak reference to its pool
        self._wire = cast("Wire", pool.make_connection())
        self._lock = threading.RLock()

    @classmethod
    def open(cls, url: str, *, password_file: Path | None = None, timeout_s: float = 5.0) -> Link:
        """A link to `redis://`, `rediss://`, `unix://` or `redis+sentinel://host:port,.../name`; connects later."""
        options = connect_options(timeout_s)
        if password_file is not None:
            options["password"] = read_password(password_file)
        scheme = urlsplit(url).scheme
        if scheme not in SCHEMES:
            msg = f"redis URL has scheme {scheme!r}; allowed are {', '.join(SCHEMES)}"
            raise ConfigError(msg)
        if scheme == "redis+sentinel":
            return cls(_sentinel_pool(url, options), without_password(url))
        try:
            pool = redis.ConnectionPool.from_url(url, **options)
        except (ValueError, TypeError) as error:
            msg = f"redis URL {without_password(url)} is not valid: {error}"
            raise ConfigError(msg) from error
        pool.connection_kwargs.update(options)  # what the URL says of these would win otherwise
        return cls(pool, without_password(url))

    @contextmanager
    def held(self) -> Generator[None]:
        """Nobody else's command goes between ours while this is held (WATCH ... EXEC)."""
        with self._lock:
            yield

    def call(self, *command: str | bytes | int) -> Any:
        """One command, its reply; an error reply is raised as what it means to us."""
        (reply,) = self.exchange([command])
        return checked(reply)

    def exchange(
        self, commands: Sequence[Command], sent: Callable[[], None] | None = None
    ) -> list[Any]:
        """Send commands in one packet, read every reply; error replies come back as exceptions, not raised.

        `sent` is called after the packet left and before the first reply is read.
        """
        with self._lock:
            whole = False  # a half-read exchange must not leave its replies to the next one
            try:
                self._wire.connect()  # sending would connect too, but without asking Sentinel where
                self._wire.send_packed_command(
                    self._wire.pack_commands(commands), check_health=False
                )
                if sent is not None:
                    sent()
                replies = [self._reply() for _ in commands]
                # A demoted master: only a new connection asks Sentinel where the master is now.
                whole = not any(isinstance(one, server_errors.ReadOnlyError) for one in replies)
            except (server_errors.RedisError, OSError) as error:
                raise_meaning(error, self.shown)
            finally:
                if not whole:
                    self.breaks += 1
                    self._wire.disconnect()
        return replies

    def _reply(self) -> Any:
        try:
            return self._wire.read_response()
        except server_errors.ResponseError as error:
            return error

    def drop(self) -> None:
        """Forget the connection and everything the server knows of it; the next command opens a new one."""
        with self._lock:
            self._wire.disconnect()

    close = drop


def checked(reply: Any) -> Any:
    """The reply, or its error raised as what it means to us (also the first error inside an EXEC)."""
    if isinstance(reply, server_errors.RedisError):
        raise_meaning(reply, "")
    if isinstance(reply, list):
        parts = cast("list[Any]", reply)
        for part in parts:
            if isinstance(part, server_errors.RedisError):
                raise_meaning(part, "")
        return parts
    return reply


def raise_meaning(error: server_errors.RedisError | OSError, shown: str) -> NoReturn:
    """Raise the DaemonError that says what a server or socket error means to us."""
    if isinstance(error, (server_errors.AuthenticationError, MasterNotFoundError)):
        leaf = BrokerUnreachable if isinstance(error, MasterNotFoundError) else ConfigError
        msg = f"the server {shown} refuses us: {error}"
        raise leaf(msg) from error
    if isinstance(error, server_errors.NoPermissionError):
        msg = (
            f"the server does not allow this to our user: {error}; give it the rules that "
            f"deploy/valkey/users.acl has for its role, or name another user in the URL"
        )
        raise ConfigError(msg) from error
    if isinstance(error, (server_errors.ConnectionError, server_errors.TimeoutError, OSError)):
        msg = f"the server {shown} does not answer: {error or type(error).__name__}"
        raise BrokerUnreachable(msg) from error
    text = str(error)
    for start, meaning in _MEANINGS:
        if text.startswith(start):
            msg = f"the server answered: {text}"
            raise meaning(msg) from error
    msg = f"the server answered with an error we do not expect: {text}"
    raise DaemonError(msg) from error


def is_error(reply: Any, *starts: str) -> bool:
    """Whether a reply is an error whose text contains one of these."""
    return isinstance(reply, server_errors.ResponseError) and any(
        start in str(reply) for start in starts
    )


def pairs(flat: Sequence[Any]) -> dict[bytes, Any]:
    """A flat field-value list as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def server_info(link: Link) -> dict[str, str]:
    """What INFO says, as one mapping (server, memory and persistence sections together)."""
    lines = bytes(link.call("INFO", "all")).decode("utf-8", "replace").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))


def read_password(path: Path) -> str:
    """The password in a file, without the newline an editor leaves at its end."""
    try:
        return path.read_text("utf-8").rstrip("\r\n")
    except OSError as error:
        msg = f"the password file {path} cannot be read: {error.strerror}; it must hold the password and nothing else"
        raise ConfigError(msg) from error


def without_password(url: str) -> str:
    """The URL as it may be shown, logged and used again by who has the password: user and TLS files stay."""
    parts = urlsplit(url)
    credentials, _, place = parts.netloc.rpartition("@")
    user = credentials.partition(":")[0]
    kept = urlencode([(k, v) for k, v in parse_qsl(parts.query) if k in SHOWN_PARAMETERS], safe="/")
    place = f"{user}@{place}" if user else place
    return f"{parts.scheme}://{place}{parts.path}" + (f"?{kept}" if kept else "")


def _sentinel_pool(url: str, options: dict[str, Any]) -> ConnectionPool:
    parts = urlsplit(url)
    credentials, _, places = parts.netloc.rpartition("@")
    name, _, database = parts.path.strip("/").partition("/")
    hosts = [
        place.rpartition(":") if ":" in place else (place, ":", str(SENTINEL_PORT))
        for place in places.split(",")
    ]
    if not name or not all(host and port.isdigit() for host, _, port in hosts):
        msg = f"redis URL {without_password(url)} is not redis+sentinel://host:port,host:port/name[/database]"
        raise ConfigError(msg)
    user, _, password = credentials.partition(":")
    if user:
        options["username"] = unquote(user)
    if password:
        options.setdefault("password", unquote(password))
    asking = {key: options[key] for key in ("retry", "socket_timeout", "socket_connect_timeout")}
    sentinel = Sentinel([(host, int(port)) for host, _, port in hosts], sentinel_kwargs=asking)
    client = sentinel.master_for(name, db=int(database or 0), **options)
    return client.connection_pool
