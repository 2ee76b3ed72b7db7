"""Where things are: the state directory, the file with the server's password, the server itself."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from daemon.errors import ConfigError

SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")


def state_directory(flag: Path | str | None = None, configured: str | None = None) -> Path:
    """Where the state is: the flag, MTLD_STATE, the file, systemd's STATE_DIRECTORY, or the user's own state folder."""
    systemd = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    chosen = flag or os.environ.get("MTLD_STATE") or configured or systemd or Path(home) / "mtld"
    return Path(chosen).expanduser().absolute()


def password_file(named: Path | None) -> Path | None:
    """The file with the server's password: the one named, else systemd's credential `redis-password`, else None."""
    credentials = os.environ.get("CREDENTIALS_DIRECTORY")
    if named is None and credentials and (Path(credentials) / "redis-password").exists():
        return Path(credentials) / "redis-password"
    if named is not None and not os.access(named, os.R_OK):
        raise ConfigError(
            f"password_file {named} cannot be read; name a file that this user may read"
        )
    return named


def check_url(url: str) -> str:
    """Refuse a scheme we do not speak and a password that would end up in `ps` and in shell histories."""
    parts = urlsplit(url)
    if parts.scheme not in SCHEMES:
        raise ConfigError(
            f"redis_url {url!r} has scheme {parts.scheme!r}; allowed are {', '.join(SCHEMES)}"
        )
    if parts.password:
        raise ConfigError(
            "redis_url holds a password; put it in a file and name that as password_file"
        )
    return url
