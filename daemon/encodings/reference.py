"""Decodes `application/vnd.mtl.ref+json`: `{"uri", "sha256"}` of a file below the allow-listed root.

Off until `limits.reference_root` is set. The path is walked one component at a time from a descriptor of the
root, no component may be a symlink, and what is checked (kind, size, sha256) is what was opened.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol, cast
from urllib.parse import unquote_to_bytes, urlsplit

from daemon.encodings import json
from daemon.encodings.columns import Column, payload
from daemon.encodings.names import shown
from daemon.errors import BadEvent

if TYPE_CHECKING:
    from daemon.types import Json, Limits, Payload

FORMATS = {  # by suffix; a function (bytes, max_bytes) -> columns
    ".safetensors": "daemon.encodings.safetensors:columns",
    ".npz": "daemon.encodings.npz:columns",
    ".parquet": "daemon.encodings.parquet:columns",
}
MAX_URI_CHARS = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_READ_BYTES = 1024 * 1024


class ReadColumns(Protocol):
    """What every line of FORMATS names."""

    def __call__(self, data: bytes, max_bytes: int) -> dict[str, Column]: ...


def decode(data: bytes, subject: str | None, limits: Limits) -> Payload:
    """The rows of the file that the event points to."""
    if limits.reference_root is None:
        raise BadEvent(
            "references_off",
            "no reference root is set: set limits.reference_root, or send the rows",
        )
    uri, digest = _reference(json.load_object(data, limits))
    parts = _parts(uri, limits.reference_root)
    suffix = PurePosixPath(parts[-1]).suffix
    if suffix not in FORMATS:
        raise BadEvent(
            "unknown_format", f"file ending {shown(suffix)}; allowed are {', '.join(FORMATS)}"
        )
    content = _content(limits.reference_root, parts, limits.max_reference_bytes)
    found = sha256(content).hexdigest()
    if found != digest:
        raise BadEvent("wrong_sha256", f"the file has sha256 {found}, the event says {digest}")
    return payload(_load(FORMATS[suffix])(content, limits.max_reference_bytes), subject, limits)


@cache
def _load(where: str) -> ReadColumns:
    module, _, name = where.partition(":")
    return cast("ReadColumns", vars(import_module(module))[name])


def _reference(found: Json) -> tuple[str, str]:
    if found.keys() != {"uri", "sha256"}:
        raise BadEvent(
            "bad_reference", 'a reference is {"uri": "...", "sha256": "..."} and nothing else'
        )
    uri, digest = found["uri"], found["sha256"]
    if not isinstance(digest, str) or _SHA256.fullmatch(digest) is None:
        raise BadEvent(
            "bad_reference", f"sha256 is {shown(digest)}: send 64 lower-case hexadecimal digits"
        )
    if not isinstance(uri, str) or not 1 <= len(uri) <= MAX_URI_CHARS or "\0" in uri:
        raise BadEvent(
            "bad_reference", f"uri is {shown(uri)}: send 1 to {MAX_URI_CHARS} characters"
        )
    return uri, digest


def _parts(uri: str, root: str) -> list[str]:
    """The components below the root; no look at the file system yet."""
    if _SCHEME.match(uri):
        path = PurePosixPath(_file_path(uri))
        if not path.is_relative_to(root):
            raise BadEvent("outside_root", f"{shown(uri)} is not below the reference root")
        path = path.relative_to(root)
    else:
        path = PurePosixPath(uri)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise BadEvent(
            "outside_root", f"{shown(uri)}: send a path below the reference root, without '..'"
        )
    return list(path.parts)


def _file_path(uri: str) -> str:
    try:
        url = urlsplit(uri)
        path = unquote_to_bytes(url.path).decode()
    except ValueError as error:
        raise BadEvent("bad_reference", f"uri {shown(uri)} is not a URI") from error
    if (
        url.scheme != "file"
        or url.netloc not in ("", "localhost")
        or url.query
        or url.fragment
        or "\0" in path
    ):
        raise BadEvent("bad_reference", f"uri {shown(uri)}: send file:///path or a relative path")
    return path


def _content(root: str, parts: list[str], max_bytes: int) -> bytes:
    try:
        descriptor = _open_below(root, parts)
        try:
            return _read(descriptor, parts, max_bytes)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise BadEvent(*_why_not(error, parts)) from error


def _open_below(root: str, parts: list[str]) -> int:
    """A descriptor of the file, opened component by component so that no symlink is ever followed."""
    folder = os.open(Path(root), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = os.open(
                part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder
            )
            os.close(folder)
            folder = inner
        # O_NONBLOCK: opening a pipe must not wait for a writer
        return os.open(
            parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
        )
    finally:
        os.close(folder)


def _read(descriptor: int, parts: list[str], max_bytes: int) -> bytes:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise BadEvent("not_a_file", f"{shown('/'.join(parts))} is not a regular file")
    chunks: list[bytes] = []
    num_bytes = status.st_size
    while num_bytes <= max_bytes and (chunk := os.read(descriptor, _READ_BYTES)):
        chunks.append(chunk)
        num_bytes = max(num_bytes, sum(map(len, chunks)))  # it may grow while it is read
    if num_bytes > max_bytes:
        raise BadEvent("reference_too_large", f"file of {num_bytes} bytes, at most {max_bytes}")
    return b"".join(chunks)


def _why_not(error: OSError, parts: list[str]) -> tuple[str, str]:
    name = shown("/".join(parts))
    if error.errno in (errno.ELOOP, errno.ENOTDIR):  # O_DIRECTORY on a symlink says ENOTDIR
        return "symlink", f"{name}: a component is a symlink or not a folder; store the file itself"
    if error.errno == errno.ENOENT:
        return "reference_missing", f"{name} does not exist below the reference root"
    return "reference_unreadable", f"{name}: {error.strerror}"
