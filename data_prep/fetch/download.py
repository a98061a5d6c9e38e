"""One file over HTTP: resumed where the server can, restarted where it cannot, and nothing but the right bytes."""

from __future__ import annotations

import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from data_prep.errors import SourceError
from data_prep.progress import Progress, bar
from data_prep.storage.files import explained, put_in_place, sha256_of

# Short, because the next mirror may answer at once; it bounds the connection and every single read, not the whole.
TIMEOUT_SECONDS = 5.0
# Pauses before the second, third, ... attempt at a transfer that broke off; every attempt resumes the one before.
RETRY_PAUSES = (0.2, 1.0, 3.0)
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Artifact:
    """A published file and what proves that one has it: length in bytes and SHA-256."""

    name: str
    bytes: int
    sha256: str

    def difference(self, path: Path) -> str | None:
        """How the file at `path` differs from this one, "expected ..., found ..."; None when it is this one."""
        try:
            size = path.stat().st_size
            if size != self.bytes:
                return f"expected {self.bytes} bytes, found {size}"
            digest = sha256_of(path)
        except OSError as error:
            return f"it cannot be read ({error.strerror})"
        return None if digest == self.sha256 else f"expected sha256 {self.sha256}, found {digest}"


class _BrokenOffError(Exception):
    """A transfer ended too early; another attempt may go on from there."""


def download(url: str, target: Path, artifact: Artifact, progress: Progress) -> None:
    """Bring `url` to `target` through `target`.part, which survives an interruption and is resumed from.

    `target` is only ever replaced by a file with the length and SHA-256 of `artifact`.

    Raises:
        SourceError: the server cannot be reached, refuses, breaks off again and again, or sends other bytes.
        StorageError: the file cannot be written.
    """
    part = target.with_name(target.name + ".part")
    for pause in (*RETRY_PAUSES, None):
        resumed = part.exists()
        try:
            with bar(progress, artifact.name, artifact.bytes):
                _transfer(url, part, artifact.bytes, progress)
            reason = artifact.difference(part)
        except _BrokenOffError as broken:
            reason, resumed = str(broken), True
        else:
            if reason is None:
                with explained(target):
                    put_in_place(part, target)
                return
            part.unlink()
        # Wrong bytes in one piece are what the server has; in several pieces, an old part may be to blame.
        if not resumed or pause is None:
            break
        time.sleep(pause)
    raise SourceError(f"{url}: {reason}")


def _transfer(url: str, part: Path, total: int, progress: Progress) -> None:
    """Append to `part` what it lacks of `total` bytes; return when it is as long as that, or the server sent more."""
    have = part.stat().st_size if part.exists() else 0
    if have >= total:
        return
    with _open(url, have, part) as response:
        if response.status != 206:
            have = 0
        length = response.headers.get("Content-Length")
        if length not in (None, str(total - have)):
            raise SourceError(f"{url}: expected {total - have} bytes, the server has {length}")
        progress.advance(have)
        with explained(part), open(part, "ab" if have else "wb") as stream:
            for chunk in _chunks(response):
                stream.write(chunk)
                have += len(chunk)
                progress.advance(len(chunk))
                if have > total:
                    break
            stream.flush()
            os.fsync(stream.fileno())
    if have < total:
        raise _BrokenOffError(f"broke off after {have} of {total} bytes")


def _open(url: str, have: int, part: Path) -> http.client.HTTPResponse:
    """Ask for the bytes from `have` on; the answer is 206 with exactly these, or 200 with the whole file."""
    headers = {"Range": f"bytes={have}-"} if have else {}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - the URLs are constants of this package
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)  # noqa: S310
    except urllib.error.HTTPError as error:
        error.close()
        if have and error.code == 416:
            part.unlink()
            raise _BrokenOffError("refused to resume") from None
        raise SourceError(f"{url}: HTTP {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)  # what is inside an URLError
        raise SourceError(f"{url}: {getattr(reason, 'strerror', None) or reason or type(reason).__name__}") from error
    wanted = f"bytes {have}-" if have else None
    if response.status == 206 and not (wanted and response.headers.get("Content-Range", "").startswith(wanted)):
        response.close()
        part.unlink(missing_ok=True)
        raise _BrokenOffError("sent another part of the file than asked for")
    return response


def _chunks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    """The body in pieces. Its errors are network errors, never to be confused with those of the disk."""
    while True:
        try:
            chunk = response.read1(_CHUNK)  # what there is: a stall later loses none of it
        except (OSError, http.client.HTTPException) as error:
            raise _BrokenOffError(f"broke off: {error or type(error).__name__}") from error
        if not chunk:
            return
        yield chunk
