"""Malformed references and files: what a path, a zip or a hash may try. Files are made below the reference root."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from daemon.types import Limits
from tests.support.raw import REFERENCE, Fields, fields

ROWS = {"x": np.arange(32, dtype=np.uint8).reshape(2, 4, 4), "y": np.array([0, 1])}
Case = tuple[str, Callable[[Limits], Fields], str]


def kinds() -> list[Case]:
    """Name, maker of the fields, expected reason; the makers need `limits.reference_root` to be writable."""
    return [
        ("path with ..", lambda _: pointing("../secret.npz"), "outside_root"),
        ("absolute path", lambda _: pointing("/etc/passwd.npz"), "outside_root"),
        ("file uri outside the root", lambda _: pointing("file:///etc/passwd.npz"), "outside_root"),
        ("file uri with encoded ..", _encoded_dots, "outside_root"),
        ("uri of a server", lambda _: pointing("https://example.org/a.npz"), "bad_reference"),
        ("uri with a NUL", lambda _: pointing("a\0.npz"), "bad_reference"),
        ("file that is a symlink", _linked_file, "symlink"),
        ("folder that is a symlink", _linked_folder, "symlink"),
        ("pipe instead of a file", _pipe, "not_a_file"),
        ("file that is missing", lambda _: pointing("missing.npz"), "reference_missing"),
        ("file with another sha256", _other_hash, "wrong_sha256"),
        ("sha256 that is none", lambda _: pointing("a.npz", "0" * 63), "bad_reference"),
        ("reference with a third key", _third_key, "bad_reference"),
        (
            "file of another format",
            lambda lim: stored(lim, "a.pkl", b"\x80\x04N."),
            "unknown_format",
        ),
        ("file that is too large", _large, "reference_too_large"),
        ("npz with pickled objects", _pickled, "pickled_objects"),
        ("npz that unpacks to too much", _bomb, "reference_too_large"),
        ("npz that lies about a shape", _lying, "bad_npz"),
        ("npz that is no zip", lambda lim: stored(lim, "no.npz", b"PK\3\4 not a zip"), "bad_npz"),
        (
            "safetensors file cut short",
            lambda lim: stored(lim, "cut.safetensors", save(ROWS)[:-3]),
            "truncated",
        ),
    ]


def root_of(limits: Limits) -> Path:
    """The folder that references are read from."""
    assert limits.reference_root is not None, "references need limits.reference_root"
    return Path(limits.reference_root)


def pointing(uri: str, digest: str = "0" * 64) -> Fields:
    """An event that points to `uri`."""
    data = json.dumps({"uri": uri, "sha256": digest}).encode()
    return fields("mtl.data.v1", "digits", data, datacontenttype=REFERENCE)


def stored(limits: Limits, name: str, content: bytes, uri: str | None = None) -> Fields:
    """A file below the root and an event that points to it with the right hash."""
    path = root_of(limits) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return pointing(uri or name, sha256(content).hexdigest())


def npz(columns: dict[str, np.ndarray]) -> bytes:
    """A compressed .npz, as numpy writes it."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **columns)
    return buffer.getvalue()


def _encoded_dots(limits: Limits) -> Fields:
    return pointing(f"file://{root_of(limits)}/%2e%2e/secret.npz")


def _linked_file(limits: Limits) -> Fields:
    made = stored(limits, "real.npz", npz(ROWS), "link.npz")
    _link(root_of(limits) / "link.npz", Path("real.npz"))
    return made


def _linked_folder(limits: Limits) -> Fields:
    made = stored(limits, "folder/a.npz", npz(ROWS), "linked/a.npz")
    _link(root_of(limits) / "linked", Path("folder"))
    return made


def _link(path: Path, target: Path) -> None:
    if not path.is_symlink():
        path.symlink_to(target)


def _pipe(limits: Limits) -> Fields:
    path = root_of(limits) / "pipe.npz"
    if not path.exists():
        os.mkfifo(path)
    return pointing("pipe.npz")


def _other_hash(limits: Limits) -> Fields:
    stored(limits, "other.npz", npz(ROWS))
    return pointing("other.npz", "a" * 64)


def _third_key(_: Limits) -> Fields:
    data = json.dumps({"uri": "a.npz", "sha256": "0" * 64, "password": "x"}).encode()
    return fields("mtl.data.v1", "digits", data, datacontenttype=REFERENCE)


def _large(limits: Limits) -> Fields:
    path = root_of(limits) / "large.npz"
    with path.open("wb") as file:
        file.truncate(limits.max_reference_bytes + 1)  # sparse: takes no space
    return pointing("large.npz")


def _pickled(limits: Limits) -> Fields:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.array([{"a": 1}, None], dtype=object), allow_pickle=True)
    return stored(limits, "pickled.npz", buffer.getvalue())


def _bomb(limits: Limits) -> Fields:
    zeros = np.zeros((2, limits.max_reference_bytes), np.uint8)
    return stored(limits, "bomb.npz", npz({"x": zeros}))


def _lying(limits: Limits) -> Fields:
    member = io.BytesIO()
    np.save(member, ROWS["x"])
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x.npy", member.getvalue().replace(b"(2, 4, 4)", b"(9, 9, 9)"))
    return stored(limits, "lying.npz", buffer.getvalue())
