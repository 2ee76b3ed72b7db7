"""What can go wrong in the daemon: one root, and a leaf only where a caller acts differently on it."""


class DaemonError(Exception):
    """The root; `exit_code` is what the process returns when nobody handles it (table in the README)."""

    exit_code = 1


class ConfigError(DaemonError):
    """A setting that is unknown, of the wrong type or out of range."""

    exit_code = 2


class NotRunning(DaemonError):
    """No daemon answers on this state directory's control socket."""

    exit_code = 3


class BrokerUnreachable(DaemonError):
    """The server does not answer; tried again with back-off while running, fatal only for one-shot commands."""

    exit_code = 4


class TimedOut(DaemonError):
    """Something waited for did not happen in the time allowed."""

    exit_code = 6


class Refused(DaemonError):
    """The request is understood and not carried out; the message says what would make it acceptable."""

    exit_code = 7


class IntegrityError(DaemonError):
    """Durable state is missing, damaged or does not belong to this stream; nothing was changed."""

    exit_code = 8


class LeaseLost(DaemonError):
    """Another writer holds the lease of this stream: stop at once and write nothing more."""

    exit_code = 9


class BrokerFull(DaemonError):
    """The server refuses writes for want of memory; reads and trimming still work."""

    exit_code = 75


class StreamExhausted(DaemonError):
    """The log holds the last possible id and takes no entry ever again; somebody must delete the stream."""

    exit_code = 8


class BadEvent(DaemonError):
    """An event that cannot be accepted; `reason` is a stable snake_case code that the dead letter carries."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
