"""Archives that anybody may have made: only what is wanted is read, nothing is written, and tricks are refused."""

from __future__ import annotations

import contextlib
import gzip
import io
import tarfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mirror_server import artifact_of

from data_prep import SourceError
from data_prep.fetch import sources

FIRST, SECOND = np.random.default_rng(6).bytes(30_000), b"\1\2\3" * 5_000
CONTENT = {"batches/first.bin": FIRST, "batches/second.bin": SECOND}
WANTED = {name: artifact_of(Path(name).name, data) for name, data in CONTENT.items()}
MOST = 100_000


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder in one that nothing else uses, so that a file beside it is seen without a look at those of all tests."""
    (tmp_path / "downloads").mkdir()
    return tmp_path / "downloads"


Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", data: bytes = b"") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def archive(path: Path, *more: Member, without: str = "") -> Path:
    wanted = [member(name, data=data) for name, data in CONTENT.items() if name != without]
    with tarfile.open(path / "batches.tar.gz", "w:gz", compresslevel=1) as tar:
        for info, data in (*wanted, *more):
            tar.addfile(info, io.BytesIO(data))
    return path / "batches.tar.gz"


def refused(path: Path, message: str) -> None:
    before = sorted(path.parent.parent.rglob("*"))
    with pytest.raises(SourceError, match=message) as failure:
        sources.from_tar(path, WANTED, MOST)
    assert str(path) in str(failure.value)
    assert "\n" not in str(failure.value)
    assert sorted(path.parent.parent.rglob("*")) == before


def test_the_wanted_files_are_read_in_the_order_asked_and_others_left(tmp_path):
    path = archive(tmp_path, member("batches", tarfile.DIRTYPE), member("batches/readme.html", data=b"<html>"))
    assert sources.from_tar(path, WANTED, MOST) == [FIRST, SECOND]
    backwards = dict(reversed(WANTED.items()))
    assert sources.from_tar(path, backwards, MOST) == [SECOND, FIRST]


@pytest.mark.parametrize("name", ["../escaped", "batches/../../escaped", "/tmp/escaped", ".."])  # noqa: S108
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    refused(archive(tmp_path, member(name, data=b"!")), "is not the official archive: .* leads out of it")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_refused(tmp_path, kind):
    refused(archive(tmp_path, member("batches/x", kind, "/etc/passwd")), "'batches/x' is a link or a device")


def test_a_wanted_file_that_is_a_link_to_elsewhere_is_refused(tmp_path):
    link = member("batches/first.bin", tarfile.SYMTYPE, "/etc/passwd")
    refused(archive(tmp_path, link, without="batches/first.bin"), "is a link or a device")


def test_a_file_that_is_there_twice_is_refused(tmp_path):
    refused(archive(tmp_path, member("batches/first.bin", data=FIRST)), r"batches/first\.bin is there twice")


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path):
    folder = member("batches/first.bin", tarfile.DIRTYPE)
    refused(archive(tmp_path, folder, without="batches/first.bin"), r"batches/first\.bin is a folder")


def test_a_missing_file_is_told(tmp_path):
    refused(archive(tmp_path, without="batches/second.bin"), r"it has no batches/second\.bin")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (FIRST[:-1], "first.bin is not first.bin: expected 30000 bytes, found 29999"),
        (FIRST + b"!", "expected 30000 bytes, found more"),
        (FIRST[:-1] + bytes([FIRST[-1] ^ 1]), "expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path, data, message):
    refused(archive(tmp_path, member("batches/first.bin", data=data), without="batches/first.bin"), message)


def test_an_archive_that_unpacks_to_much_more_is_refused_in_little_memory(tmp_path):
    path = archive(tmp_path, member("batches/zeros", data=bytes(10_000_000)))
    assert path.stat().st_size < MOST
    refused(path, "it unpacks to over 100000 bytes")


def test_a_name_that_takes_much_more_is_refused_too(tmp_path):
    path = archive(tmp_path, member("batches/" + "a" * 1_000_000))
    refused(path, "it unpacks to over 100000 bytes")


def test_what_is_no_archive_is_told(tmp_path):
    path = tmp_path / "batches.tar.gz"
    for content in (b"", b"<html>log in to this hotel</html>", gzip.compress(b"<html>" * 1000)):
        path.write_bytes(content)
        refused(path, "is a damaged .tar.gz|it has no batches/first.bin")


def test_one_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(SourceError, match=r"cannot read .*absent\.tar\.gz \(No such file or directory\)"):
        sources.from_tar(tmp_path / "absent.tar.gz", WANTED, MOST)


def crafted(path: Path, kind: bytes, size: int | bytes, content: bytes = b"", magic: bytes = b"ustar\x0000") -> Path:
    """An archive whose first header is made by hand: an entry "x" of any kind and size, before the wanted files."""
    header = bytearray(512)
    header[:1], header[156:157], header[257:265], header[148:156] = b"x", kind, magic, b" " * 8
    header[124:136] = size if isinstance(size, bytes) else f"{size:011o}\0".encode()
    if kind == b"S":  # a GNU sparse file: its real size, and one piece of it
        header[386:410], header[483:495] = b"00000000000\0" * 2, size if isinstance(size, bytes) else header[124:136]
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    rest = gzip.decompress(archive(path).read_bytes())
    data = bytes(header) + content + bytes(-len(content) % 512) + rest
    (path / "batches.tar.gz").write_bytes(gzip.compress(data, 1))
    return path / "batches.tar.gz"


FOUR_GIB = b"\x80\0\0\0\0\0\0\x01\0\0\0\0"  # base 256


@pytest.mark.parametrize(
    ("kind", "size", "content", "message"),
    [
        (b"S", 4 << 30, b"", "is a link or a device, or no plain file"),
        (b"S", FOUR_GIB, b"", "is a damaged .tar.gz .* is no octal number"),
        (b"0", FOUR_GIB, b"", "is no octal number"),
        (b"0", b"-0000000001\0", b"", "is no octal number"),
        (b"0", 8**11 - 1, b"", "it unpacks to over 100000 bytes"),
        (b"L", 0, b"", "is a link or a device, or no plain file"),
        (b"x", 70_000, bytes(70_000), "'x' is a header of 70000 bytes"),
        (b"x", 17, b"17 path=../a/b/c\n", "an extended header changes the 'path'"),
        (b"g", 25, b"25 GNU.sparse.major=1.00\n", "an extended header changes the 'GNU.sparse.major'"),
        (b"x", 12, b"99999999999 ", "an extended header cannot be read"),
        (b"x", 12, b"-1 mtime=1\n\n", "an extended header cannot be read"),
        (b"x", 12, b"\xb2 mtime=12\n", "an extended header cannot be read"),
        (b"x", 20_000, b"0 a=\n" * 3333 + b"\0\0", "an extended header cannot be read"),
    ],
)
def test_crafted_headers_are_refused_in_little_memory(tmp_path, kind, size, content, message):
    path = crafted(tmp_path, kind, size, content)
    refused(path, message)  # once before: modules that are imported here are not what is measured
    tracemalloc.start()
    try:
        with pytest.raises(SourceError, match=message):
            sources.from_tar(path, WANTED, MOST)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_an_extended_header_of_times_and_owners_is_passed_over(tmp_path):
    record = b"22 mtime=1234567890.5\n"
    assert sources.from_tar(crafted(tmp_path, b"x", len(record), record), WANTED, MOST) == [FIRST, SECOND]


@given(data=st.data())
def test_any_bytes_of_a_header_are_refused_or_give_the_right_bytes(whole, data):
    content = bytearray(gzip.decompress(whole.read_bytes()))
    start = data.draw(st.sampled_from([0, 512 + 30_208]))
    for _ in range(data.draw(st.integers(1, 4))):
        place = start + data.draw(st.integers(0, 511))
        content[place : place + 1] = data.draw(st.binary(min_size=1, max_size=1))
    header = content[start : start + 512]
    header[148:156] = b" " * 8
    content[start + 148 : start + 156] = f"{sum(header):06o}\0 ".encode()  # so that more than the checksum is tried
    damaged = whole.with_name("header.tar.gz")
    damaged.write_bytes(gzip.compress(content, 1))
    with contextlib.suppress(SourceError):
        assert sources.from_tar(damaged, WANTED, MOST) == [FIRST, SECOND]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    return archive(tmp_path_factory.mktemp("whole"))


@given(data=st.data())
def test_a_damaged_archive_is_refused_or_gives_the_right_bytes(whole, data):
    content = bytearray(whole.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    damaged = whole.with_name("damaged.tar.gz")
    damaged.write_bytes(content)
    with contextlib.suppress(SourceError):
        assert sources.from_tar(damaged, WANTED, MOST) == [FIRST, SECOND]
