"""The catalogue of published snapshots: directories `v000123`, and the aliases that say which one to serve.

Files only, so that a server of models can use it without torch. An alias is a relative symbolic link, swapped by
rename: whoever follows it sees one whole snapshot, never none and never half of two.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from daemon import finite
from daemon.decisions import decide, decided
from daemon.durable import sync_directory
from daemon.errors import IntegrityError, Refused
from daemon.failpoints import reach
from daemon.types import Json

MANIFEST = "manifest.json"
ALIASES = (
    "latest",
    "previous",
    "champion",
)  # latest: the newest; champion: the one to serve, set by the gate or by hand; previous: the champion before it
LOCK = ".lock"
_DIRECTORY = re.compile(r"v(\d{6,})")
_MAX_MANIFEST_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Release:
    """One published snapshot: its number, its directory, and the aliases that point to it."""

    version: int
    path: Path
    aliases: tuple[str, ...]


def directory_name(version: int) -> str:
    """The directory of a version: v000123."""
    return f"v{version:06d}"


def catalogue(models: Path) -> list[Release]:
    """All releases, newest first."""
    targets = {alias: target(models, alias) for alias in ALIASES}
    found = [
        Release(
            int(match[1]),
            path,
            tuple(alias for alias, name in targets.items() if name == path.name),
        )
        for path in (models.iterdir() if models.is_dir() else ())
        if (match := _DIRECTORY.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found, key=lambda release: -release.version)


def newest_version(models: Path) -> int:
    """The highest version number in use, 0 where there is none."""
    return max((release.version for release in catalogue(models)), default=0)


def find(models: Path, name: str) -> Release:
    """The release of that alias, directory name or number."""
    wanted = target(models, name) if name in ALIASES else name
    number = (wanted or "").removeprefix("v")
    for release in catalogue(models):
        if number.isdigit() and release.version == int(number):
            return release
    known = ", ".join(release.path.name for release in catalogue(models)) or "none"
    raise Refused(
        f"no snapshot {name!r} in {models}; there are: {known}; aliases are {', '.join(ALIASES)}"
    )


def snapshot_directory(models: Path, name: str) -> Path:
    """The folder of a release by any of its names, or the folder that a path with a slash names."""
    if "/" not in name:
        return find(models, name).path
    if not (Path(name) / MANIFEST).is_file():
        raise Refused(f"{name} is no snapshot: it has no {MANIFEST}")
    return Path(name)


def manifest(directory: Path) -> Json:
    """What a snapshot or checkpoint says of itself."""
    path = directory / MANIFEST
    try:
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise IntegrityError(
                f"{path} is larger than {_MAX_MANIFEST_BYTES} bytes; it is not a manifest"
            )
        found: object = finite.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise IntegrityError(f"{path} cannot be read: {error}") from None
    if not isinstance(found, dict) or not isinstance(cast("Json", found).get("files"), dict):
        raise IntegrityError(f"{path} names no files; it is not a manifest")
    return cast("Json", found)


def described(release: Release, keys: Sequence[str]) -> Json:
    """A release and what its manifest says under these keys; `error` where it cannot be read."""
    entry: Json = {
        "version": release.version,
        "path": str(release.path),
        "aliases": list(release.aliases),
    }
    try:
        said = manifest(release.path)
    except IntegrityError as error:
        return {**entry, **dict.fromkeys(keys), "error": str(error)}
    size = sum(int(one.get("bytes", 0)) for one in said["files"].values())
    return {**entry, **{key: said.get(key) for key in keys}, "bytes": size}


def problems(directory: Path) -> list[str]:
    """Every way in which the files differ from the manifest's sizes and hashes; empty = verified."""
    try:
        said = manifest(directory)
    except IntegrityError as error:
        return [str(error)]
    return [
        found for name, one in said["files"].items() if (found := _problem(directory / name, one))
    ]


def same_content(one: Path, other: Path) -> bool:
    """Whether two directories hold the same files by their manifests, and the second one's files are whole."""
    try:
        same = manifest(one)["files"] == manifest(other)["files"]
    except IntegrityError:
        return False
    return same and not problems(other)


def target(models: Path, alias: str) -> str | None:
    """The directory name an alias points to, or None."""
    try:
        return str((models / alias).readlink())
    except OSError:
        return None


def point(models: Path, alias: str, name: str) -> None:
    """Let an alias point to a directory, in one step for whoever reads it."""
    if alias not in ALIASES:
        raise Refused(f"alias {alias!r} is not known; aliases are {', '.join(ALIASES)}")
    if not (models / name).is_dir():
        raise Refused(
            f"{models / name} does not exist; an alias only points to a published snapshot"
        )
    temporary = models / f".{alias}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(name)
    temporary.replace(models / alias)
    sync_directory(models)


def promote(models: Path, name: str, *, by_hand: bool = False) -> str | None:
    """Make a published snapshot the champion; the one before becomes previous. Returns that one's name.

    `previous` is swapped first, so that whoever dies in between leaves the old champion serving. What is not by
    hand yields to what is: a promotion carried out again after a crash does not undo an operator's later decision.
    """
    with _alone(models):
        before = target(models, "champion")
        if not by_hand and int(name.removeprefix("v")) <= decided(models)["up_to"]:
            return before
        if by_hand:
            decide(models, up_to=newest_version(models))
        if before == name:
            return before
        if before is not None and (models / before).is_dir():
            point(models, "previous", before)
        reach("previous_swapped")
        point(models, "champion", name)
        return before


def check_promotable(release: Release, *, force: bool) -> None:
    """Raise Refused for a snapshot that is damaged, or that the gate refused unless `force`."""
    wrong = problems(release.path)
    if wrong:
        raise IntegrityError(f"{release.path.name} is damaged: {'; '.join(wrong)}")
    verdict = cast("Json", manifest(release.path).get("verdict") or {})
    if verdict.get("decision") == "refused" and not force:
        raise Refused(
            f"the gate refused {release.path.name}: {verdict.get('reason')}; promote another one, or this one with --force"
        )


def demote(models: Path) -> tuple[str, str]:
    """Give the champion's place back to the one before; returns (new champion, old champion). Twice changes nothing."""
    with _alone(models):
        now, before = target(models, "champion"), target(models, "previous")
        if before is None or before == now or not (models / before).is_dir():
            raise Refused(
                f"no champion before {now or 'this one'} is kept in {models}; choose one with `mtld snapshot promote`"
            )
        decide(models, up_to=newest_version(models))
        point(models, "champion", before)
        reach("champion_swapped")
        if now is not None:
            point(models, "previous", now)
        return before, now or ""


def pins(models: Path) -> list[str]:
    """The directory names that are kept whatever their age."""
    return decided(models)["pins"]


def pin(models: Path, name: str, *, pinned: bool) -> None:
    """Keep a snapshot whatever its age, or no longer."""
    with _alone(models):
        names = {one for one in pins(models) if one != name}
        decide(models, pins=sorted({*names, name} if pinned else names))


def retain(models: Path, keep: int) -> list[int]:
    """Remove all but the newest `keep` releases, those an alias names and pinned ones; returns what was removed."""
    pinned = set(pins(models))
    old = [
        release
        for release in catalogue(models)[keep:]
        if not release.aliases and release.path.name not in pinned
    ]
    for left in models.glob(".v*.removed"):  # by whoever died while removing
        shutil.rmtree(left)
    for release in old:
        doomed = (
            models / f".{release.path.name}.removed"
        )  # renamed first: nobody sees half a snapshot
        release.path.rename(doomed)
        shutil.rmtree(doomed)
    return [release.version for release in old]


@contextmanager
def _alone(models: Path) -> Generator[None]:
    """One process at a time changes what points where: the daemon, or an operator's command."""
    if not models.is_dir():
        raise Refused(
            f"no snapshot was ever published in {models}; `mtld snapshot publish` makes one"
        )
    with (models / LOCK).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _problem(path: Path, said: Any) -> str | None:
    try:
        size, sha256 = int(said["bytes"]), str(said["sha256"])
    except (KeyError, TypeError, ValueError):
        return f"{path.name}: the manifest gives no size and sha256"
    try:
        found = path.stat().st_size
        if found != size:
            return f"{path.name}: {found} bytes, the manifest says {size}"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"{path.name}: {error.strerror}"
    return (
        None
        if digest == sha256
        else f"{path.name}: sha256 {digest[:12]}…, the manifest says {sha256[:12]}…"
    )
