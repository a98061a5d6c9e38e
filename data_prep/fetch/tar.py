"""Files out of a .tar.gz that anybody may have made: a small, strict reader, bounded in memory whatever it is given.

The reader of the standard library serves every tar there is: it allocates what a sparse file claims to hold, and ends
in errors of any kind on crafted headers. Here an entry is a file or a folder with a plain header, or the archive is
refused. Nothing is written to disk.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from data_prep.errors import SourceError

_BLOCK = 512
_CHUNK = 1 << 20
_FILE, _FOLDER, _PAX = b"0\0", b"5", b"xg"
_MOST_PAX = 1 << 16
# A pax header may hold times, owners and attributes, which are passed over. These would change what an entry is.
_PAX_REFUSED = re.compile(rb"path|linkpath|size|hdrcharset|GNU\.sparse.*", re.DOTALL)


class _Entry(NamedTuple):
    name: str
    kind: bytes
    size: int


def read_members(archive: Path, names: Collection[str], most: int) -> dict[str, bytes]:
    """The bytes of those of `names` that are in the archive, by their exact names.

    The archive is refused as a whole if a name in it leads elsewhere, if an entry is neither a file nor a folder, if a
    wanted file is there twice, or if it unpacks to over `most` bytes.

    Raises:
        SourceError: it is refused, damaged, or cannot be read.
    """
    try:
        with gzip.open(archive) as stream:
            return _Reader(archive, stream, most).members(names)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise SourceError(f"{archive} is a damaged .tar.gz ({error})") from error
    except OSError as error:
        raise SourceError(f"cannot read {archive} ({error.strerror})") from error


def refuse(archive: Path, condition: bool, reason: str) -> None:
    """Raise SourceError for the archive if the condition holds."""
    if condition:
        raise SourceError(f"{archive} is not the official archive: {reason}")


class _Reader:
    """Reads an unpacked stream once, from its beginning to its end; `most` bytes may be taken from it."""

    def __init__(self, archive: Path, stream: gzip.GzipFile, most: int) -> None:
        self._archive, self._stream, self._most, self._left = archive, stream, most, most

    def members(self, names: Collection[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        while (entry := self._next_entry()) is not None:
            if entry.name in names and entry.kind not in _PAX:
                refuse(self._archive, entry.kind in _FOLDER, f"{entry.name} is a folder")
                refuse(self._archive, entry.name in found, f"{entry.name} is there twice")
                found[entry.name] = self._take(entry.size)
            elif entry.kind in _PAX:
                self._check_pax(self._take(entry.size))
            else:
                self._skip(entry.size)
            self._skip(-entry.size % _BLOCK)
        while self._take(min(_CHUNK, self._left + 1), exactly=False):
            pass  # to the end, where the checksum of gzip is
        return found

    def _next_entry(self) -> _Entry | None:
        """The next entry, once it is known to be harmless; None at the end."""
        header = self._take(_BLOCK, exactly=False)
        if not header.strip(b"\0"):
            return None
        entry = self._entry(header)
        path = PurePosixPath(entry.name)
        refuse(self._archive, path.is_absolute() or ".." in path.parts, f"{entry.name!r} leads out of it")
        plain = entry.kind in _FILE + _FOLDER + _PAX
        refuse(self._archive, not plain, f"{entry.name!r} is a link or a device, or no plain file")
        refuse(self._archive, entry.size > self._left, f"it unpacks to over {self._most} bytes")
        too_long = entry.kind in _PAX and entry.size > _MOST_PAX
        refuse(self._archive, too_long, f"{entry.name!r} is a header of {entry.size} bytes")
        return entry

    def _entry(self, header: bytes) -> _Entry:
        checksum = self._number(header[148:156])
        if len(header) < _BLOCK or sum(header) - sum(header[148:156]) + 8 * ord(" ") != checksum:
            raise self._damaged("it holds something else than headers and files")
        name = header[:100].partition(b"\0")[0]
        prefix = header[345:500].partition(b"\0")[0] if header[257:263] == b"ustar\0" else b""
        path = prefix + b"/" + name if prefix else name
        text = path.decode(errors="backslashreplace").rstrip("/")
        return _Entry(text, header[156:157], self._number(header[124:136]))

    def _number(self, field: bytes) -> int:
        digits = field.strip(b" \0")
        if re.fullmatch(rb"[0-7]*", digits) is None:  # what needs the other notation, base 256, is larger than allowed
            raise self._damaged(f"{field!r} is no octal number")
        return int(digits or b"0", 8)

    def _check_pax(self, text: bytes) -> None:
        """Records "length keyword=value" and a line break, one after another."""
        while text:
            digits, _, _ = text[:8].partition(b" ")
            length = int(digits) if re.fullmatch(rb"[0-9]{1,6}", digits) else 0
            record, text = text[:length], text[length:]
            keyword, equals, _ = record[len(digits) + 1 :].partition(b"=")
            if not equals or len(record) < length or record[-1:] != b"\n":
                raise self._damaged("an extended header cannot be read")
            changes = _PAX_REFUSED.fullmatch(keyword) is not None
            refuse(self._archive, changes, f"an extended header changes the {keyword[:40].decode(errors='replace')!r}")

    def _take(self, size: int, exactly: bool = True) -> bytes:
        data = self._stream.read(size)
        self._left -= len(data)
        refuse(self._archive, self._left < 0, f"it unpacks to over {self._most} bytes")
        if exactly and len(data) < size:
            raise self._damaged("it ends too early")
        return data

    def _skip(self, size: int) -> None:
        for start in range(0, size, _CHUNK):
            self._take(min(_CHUNK, size - start))

    def _damaged(self, reason: str) -> SourceError:
        return SourceError(f"{self._archive} is a damaged .tar.gz ({reason})")
