"""The lock of a run's folder, and of the files of registered groups, where the file system has no locks."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import threading
from pathlib import Path

import pytest

from benchmarks.errors import RunError
from benchmarks.run.lock import RunLock, is_held
from results import leases, lines
from results.errors import RegistryFileError


@pytest.fixture(autouse=True)
def no_locks(monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(leases, "acquire", functools.partial(leases.acquire, beat=0.1))


def test_one_process_at_a_time(tmp_path):
    assert not is_held(tmp_path)
    with RunLock(tmp_path, "a run").held():
        assert is_held(tmp_path)
        with pytest.raises(RunError, match="run a run is being worked on by another process"):
            RunLock(tmp_path, "a run").held().__enter__()
    assert not is_held(tmp_path)
    with RunLock(tmp_path, "a run").held():
        pass


def test_who_was_taken_over_writes_nothing_more(tmp_path):
    lock = RunLock(tmp_path, "a run")
    with lock.held():
        lock.check()
        taken = leases.take(tmp_path / "leases", "lock", 1, "another, that took this one for dead")
        with pytest.raises(RunError, match="taken over by another process"):
            lock.check()
        taken.give_back()


def test_another_error_is_no_want_of_locks(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="Input/output error"), RunLock(tmp_path, "a run").held():
        pass


def test_lines_of_several_threads_are_all_there(tmp_path):
    path = tmp_path / "registered" / "a.jsonl"

    def add(number: int) -> None:
        with lines.locked(path.parent):
            before = lines.content(path)
            Path(path).write_bytes(before + b"%d\n" % number)

    threads = [threading.Thread(target=add, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(path.read_text().split()) == list("012345")


def test_no_place_for_the_lease_is_one_line(tmp_path):
    (tmp_path / ".locks").write_text("a file where the folder would be")
    with pytest.raises(RegistryFileError, match=r"\.locks: cannot be written to: .*; free or change that place"):
        lines.locked(tmp_path / "registered").__enter__()
