"""Checksums that are always right, as where somebody altered a file and made its record anew."""

import hashlib
import zlib
from contextlib import contextmanager
from unittest.mock import patch

_sha256, _file_digest, _crc32 = hashlib.sha256, hashlib.file_digest, zlib.crc32


class _Believed(str):
    """A checksum that is equal to any other."""

    def __eq__(self, other):
        return str.__eq__(self, other) or (isinstance(other, str) and len(other) == len(self))

    def __ne__(self, other):
        return not self == other

    __hash__ = str.__hash__


class _BelievedNumber(int):
    def __eq__(self, other):
        return int.__eq__(self, other) or type(other) is int

    def __ne__(self, other):
        return not self == other

    __hash__ = int.__hash__


class _Digest:
    def __init__(self, digest):
        self._digest = digest

    def update(self, content):
        self._digest.update(content)

    def digest(self):
        return self._digest.digest()

    def hexdigest(self):
        return _Believed(self._digest.hexdigest())


@contextmanager
def all_checksums_right():
    """Have every SHA-256 and CRC-32 that is computed meanwhile be equal to whatever it is compared with."""
    with (
        patch.object(hashlib, "sha256", lambda *content, **options: _Digest(_sha256(*content, **options))),
        patch.object(hashlib, "file_digest", lambda file, name: _Digest(_file_digest(file, name))),
        patch.object(zlib, "crc32", lambda *content: _BelievedNumber(_crc32(*content))),
    ):
        yield
