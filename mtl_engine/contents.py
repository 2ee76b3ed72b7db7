"""What a row is known by: a keyed hash of the row as it is kept, which tells copies and nothing else.

The hash is a MAC (BLAKE2b with a key, RFC 7693) of a digest of the row. The digest, over all rows of an event at once, is
multilinear: sum_i k_i w_i mod 2^64 over the row's 32-bit words w with secret keys k (Lemire and Kaser 2014, "Strongly
universal string hashing is fast"), twice; two rows agree on it with a chance of at most 2^-64. Whoever does not know the salt
can neither compute a hash nor choose rows by it.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from mtl_engine.inputs import InputTable
from mtl_engine.types import Array, Rows

HASH_BYTES = 8
_LANES = 2  # of the digest
_CHUNK_BYTES = 1 << 22  # of rows looked at together: their words take a few times as much
_SHIFT = np.uint64(11)


class Contents:
    """Hashes under one salt, int64; bit 0 is the kind of a hold-out, the 53 highest are a number in [0, 1)."""

    def __init__(self, salt: str) -> None:
        self.salt = salt
        self._key = hashlib.blake2b(salt.encode(), digest_size=32, person=b"mtld-holdout").digest()

    def proof(self, words: str) -> str:
        """A word that only who knows the salt can say to `words`."""
        return hashlib.blake2b(
            words.encode(), key=self._key, digest_size=16, person=b"mtld-proof"
        ).hexdigest()

    def of_rows(self, rows: Rows, table: InputTable) -> Array:
        """A hash for every row's content [B]: equal for copies, whichever task, label or event they come with."""
        size = max(1, _CHUNK_BYTES // max(1, rows.x[:1].nbytes))
        cuts = [slice(start, start + size) for start in range(0, len(rows), size)]
        parts = [self._digest(rows if len(cuts) == 1 else rows.take(cut)) for cut in cuts]
        digest_B2 = parts[0] if len(parts) == 1 else np.concatenate(parts)
        mac = hashlib.blake2b(form(table).encode(), key=self._key, digest_size=HASH_BYTES)
        return _macs(mac, digest_B2.tobytes(), digest_B2.itemsize * _LANES)

    def _digest(self, rows: Rows) -> Array:
        words_BW = _words(rows)
        return words_BW @ _keys(self._key, words_BW.shape[1])

    def of_copies(self, place: str, row_N: Array) -> Array:
        """A hash for some rows' places: the id of their entry in the log, and their numbers in it."""
        mac = hashlib.blake2b(place.encode(), key=self._key, digest_size=HASH_BYTES)
        numbers = row_N.astype("<i8")
        return _macs(mac, numbers.tobytes(), numbers.itemsize)


def fraction(hash_B: Array) -> Array:
    """The number in [0, 1) of each hash, float64."""
    return (hash_B.view(np.uint64) >> _SHIFT) * 2.0**-53


def form(table: InputTable) -> str:
    """What rows look like: those of one form are told apart by content alone. Texts are their bytes, however many are kept."""
    shape = () if table.modality == "text" else table.shape
    return f"{table.modality} {'x'.join(map(str, shape))} {table.dtype}"


def _macs(mac: hashlib.blake2b, parts: bytes, size: int) -> Array:
    """The MAC of every `size` bytes."""
    copy, found = mac.copy, bytearray()
    for start in range(0, len(parts), size):
        each = copy()
        each.update(parts[start : start + size])
        found += each.digest()
    return np.frombuffer(bytes(found), np.int64)


def _words(rows: Rows) -> Array:
    """The rows' bytes as uint64 [B, words], each a 32-bit number; -0.0 is 0.0, every NaN the same, a text's length counts."""
    x_BD = rows.x.reshape(len(rows), -1)
    if x_BD.dtype.kind == "f":
        x_BD = x_BD + x_BD.dtype.type(0)
        x_BD[np.isnan(x_BD)] = np.nan
    bytes_BN = np.ascontiguousarray(x_BD).view(np.uint8)
    if bytes_BN.shape[1] % 4:
        bytes_BN = np.pad(bytes_BN, ((0, 0), (0, -bytes_BN.shape[1] % 4)))
    words_BW = bytes_BN.view("<u4").astype(np.uint64)
    if rows.length is None:
        return words_BW
    return np.concatenate([rows.length[:, None].astype(np.uint64), words_BW], axis=1)


@lru_cache(maxsize=16)
def _keys(key: bytes, words: int) -> Array:
    """uint64 [words, 2], odd; those of fewer words are the first of them."""
    stream = hashlib.shake_256(key).digest(words * _LANES * 8)
    return np.frombuffer(stream, "<u8").reshape(words, _LANES) | np.uint64(1)
