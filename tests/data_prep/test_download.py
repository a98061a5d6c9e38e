"""One file over HTTP, from servers that do everything wrong."""

from __future__ import annotations

import http.server
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mirror_server import Mirror, artifact_of

from data_prep import Silent, SourceError, StorageError
from data_prep.fetch import download

REPOSITORY = Path(__file__).parents[2]
DATA = np.random.default_rng(0).bytes(300_000)
FILE = artifact_of("images.gz", DATA)


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    monkeypatch.setattr(download, "RETRY_PAUSES", (0.0, 0.0, 0.0))


def fetch(mirror: Mirror, folder: Path) -> Path:
    download.download(mirror.url + FILE.name, folder / FILE.name, FILE, Silent())
    return folder / FILE.name


def part_in(folder: Path, data: bytes) -> Path:
    part = folder / f"{FILE.name}.part"
    part.write_bytes(data)
    return part


def test_a_whole_file_is_fetched_and_nothing_else_is_left(tmp_path):
    with Mirror({FILE.name: DATA}) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert [path.name for path in tmp_path.iterdir()] == [FILE.name]
    assert mirror.asked == [("/images.gz", None)]


@pytest.mark.parametrize("have", [1, 65_536, 299_999])
def test_an_interrupted_download_is_resumed(tmp_path, have):
    part_in(tmp_path, DATA[:have])
    with Mirror({FILE.name: DATA}) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert mirror.asked == [("/images.gz", f"bytes={have}-")]


def test_a_download_that_was_complete_but_not_renamed_needs_no_network(tmp_path):
    part_in(tmp_path, DATA)
    with Mirror({}) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert mirror.asked == []


def test_a_server_without_ranges_sends_all_again(tmp_path):
    part_in(tmp_path, DATA[:1000])
    with Mirror({FILE.name: DATA}, ranges=False) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert len(mirror.asked) == 1


@pytest.mark.parametrize("junk", [b"<html>log in to this hotel</html>", b"\0" * 300_000, b"\0" * 400_000])
def test_a_part_with_other_bytes_costs_one_more_attempt(tmp_path, junk):
    part_in(tmp_path, junk)
    with Mirror({FILE.name: DATA}) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert mirror.asked[-1] == ("/images.gz", None)


@pytest.mark.parametrize("declare_length", [True, False])
def test_a_connection_that_breaks_off_is_taken_up_again(tmp_path, declare_length):
    with Mirror({FILE.name: DATA}, break_after=100_000, declare_length=declare_length) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert [asked for _, asked in mirror.asked] == [None, "bytes=100000-", "bytes=200000-"]


@pytest.mark.slow  # it waits for three seconds
def test_a_connection_that_stalls_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 3.0)  # the second answer has to come in it
    with Mirror({FILE.name: DATA}, stall_after=150_000) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert [asked for _, asked in mirror.asked] == [None, "bytes=150000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_always_breaks_off_is_given_up(tmp_path, ranges):
    with (
        Mirror({FILE.name: DATA}, break_after=10_000, ranges=ranges) as mirror,
        pytest.raises(SourceError, match=r"images\.gz: broke off after \d+ of 300000 bytes$"),
    ):
        fetch(mirror, tmp_path)
    assert len(mirror.asked) == 4
    assert not (tmp_path / FILE.name).exists()


def test_a_server_that_sends_another_range_is_not_believed(tmp_path):
    part_in(tmp_path, DATA[:1000])
    with Mirror({FILE.name: DATA}, shift=5) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    assert mirror.asked == [("/images.gz", "bytes=1000-"), ("/images.gz", None)]


@pytest.mark.parametrize(
    ("mirror", "message"),
    [
        (Mirror({FILE.name: DATA[:-1] + b"!"}), f"expected sha256 {FILE.sha256}, found [0-9a-f]{{64}}$"),
        (Mirror({FILE.name: DATA + b"!"}), "expected 300000 bytes, the server has 300001$"),
        (Mirror({FILE.name: DATA * 3}, declare_length=False), "expected 300000 bytes, found "),
        (Mirror({FILE.name: b"<html>"}), "expected 300000 bytes, the server has 6$"),
        (Mirror({}), "HTTP 404 Not Found$"),
        (Mirror({FILE.name: DATA}, status=403), "HTTP 403 Forbidden$"),
        (Mirror({FILE.name: DATA}, status=503), "HTTP 503 Service Unavailable$"),
    ],
)
def test_a_server_with_other_bytes_is_refused_and_a_good_file_kept(tmp_path, mirror, message):
    good = tmp_path / FILE.name
    good.write_bytes(b"what was there before")
    with mirror, pytest.raises(SourceError, match=message):
        fetch(mirror, tmp_path)
    assert good.read_bytes() == b"what was there before"
    assert len(mirror.asked) == 1


def test_a_server_that_refuses_to_resume_is_asked_for_all(tmp_path):
    class Refusing(Mirror):
        def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
            self.status = 416 if request.headers.get("Range") else None
            super().answer(request)

    part_in(tmp_path, DATA[:1000])
    with Refusing({FILE.name: DATA}) as mirror:
        assert fetch(mirror, tmp_path).read_bytes() == DATA


def test_a_dead_server_is_reported_at_once(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/images.gz"
        with pytest.raises(SourceError, match="Connection refused"):
            download.download(url, tmp_path / FILE.name, FILE, Silent())


def test_a_server_that_never_answers_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/images.gz"
        with pytest.raises(SourceError, match="timed out"):
            download.download(url, tmp_path / FILE.name, FILE, Silent())


def test_a_server_that_speaks_no_http_is_given_up(tmp_path):
    class Babbling(Mirror):
        def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
            request.wfile.write(b"220 ready\r\n")

    with Babbling({}) as mirror, pytest.raises(SourceError, match="220 ready"):
        fetch(mirror, tmp_path)


def test_a_full_disk_is_an_error_of_the_disk_and_not_of_the_server(tmp_path):
    (tmp_path / f"{FILE.name}.part").symlink_to("/dev/full")
    with Mirror({FILE.name: DATA}) as mirror, pytest.raises(StorageError, match=r"no space left to write .*images\.gz"):
        fetch(mirror, tmp_path)
    assert len(mirror.asked) == 1


CHILD = """
import os, resource, signal, sys
from pathlib import Path
from data_prep import Silent, StorageError
from data_prep.fetch.download import Artifact, download

url, target, size, sha256, what, amount = sys.argv[1:]

class Killing(Silent):
    received = 0
    def advance(self, amount):
        self.received += amount
        if what == "kill" and self.received >= limit:
            os.kill(os.getpid(), signal.SIGKILL)

limit = int(amount)
if what == "ulimit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    download(url, Path(target), Artifact(Path(target).name, int(size), sha256), Killing())
except StorageError as error:
    sys.exit(f"error: {error}")
"""


def child(mirror: Mirror, folder: Path, what: str, amount: int) -> subprocess.CompletedProcess[str]:
    arguments = [mirror.url + FILE.name, str(folder / FILE.name), str(FILE.bytes), FILE.sha256, what, str(amount)]
    command = [sys.executable, "-c", CHILD, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def test_a_download_killed_half_way_is_resumed(tmp_path):
    with Mirror({FILE.name: DATA}) as mirror:
        killed = child(mirror, tmp_path, "kill", 140_000)
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / FILE.name).exists()
        assert fetch(mirror, tmp_path).read_bytes() == DATA
    resumed_from = mirror.asked[1][1]
    assert resumed_from is not None
    assert int(resumed_from.removeprefix("bytes=").rstrip("-")) > 0


def test_a_file_size_limit_is_told_and_the_rest_fetched_later(tmp_path):
    with Mirror({FILE.name: DATA}) as mirror:
        limited = child(mirror, tmp_path, "ulimit", 100_000)
        assert limited.returncode == 1
        assert limited.stderr.startswith("error: no space left to write ")
        assert limited.stderr.count("\n") == 1
        assert not (tmp_path / FILE.name).exists()
        assert fetch(mirror, tmp_path).read_bytes() == DATA
