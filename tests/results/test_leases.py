"""Leases: one holder at a time, taken over when it is dead, by each looker's own clock."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from results import leases
from results.leases import MISSED, LostError, Watch, acquire, holders, read, take


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hold(tmp_path):
    """Takes a lease after so many holders; given back in the end."""
    held = []

    def hold(after: int, beat: float = 60.0):
        lease = take(tmp_path, "run", after, "a machine", beat)
        held.append(lease)
        return lease

    yield hold
    for lease in held:
        lease.give_back()


def test_one_of_many_gets_it(tmp_path):
    found, begin = [], threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        found.append(take(tmp_path, "run", 0, "a machine"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (lease,) = filter(None, found)
    assert holders(tmp_path) == {"run": 1}
    assert read(lease.path).where == "a machine"
    lease.give_back()
    assert read(lease.path).is_free


def test_it_is_open_when_the_count_stood_still_for_eight_beats_of_its_holder(tmp_path, hold):
    lease, clock = hold(0, beat=10.0), Clock()
    watch = Watch(clock=clock)
    assert not watch.is_open(lease.path)
    clock.now = MISSED * 10.0
    assert not watch.is_open(lease.path)
    lease._count = 1
    lease._write(b"held")  # a sign of life, however old it is
    clock.now += 1
    assert not watch.is_open(lease.path)
    clock.now += MISSED * 10.0 + 1
    assert watch.is_open(lease.path)
    assert not Watch(clock=clock).is_open(lease.path)  # who has just begun to look knows nothing


def test_a_holder_that_has_written_nothing_is_waited_for_too(tmp_path):
    (tmp_path / "run.1").touch()
    clock = Clock()
    watch = Watch(beat=1.0, clock=clock)
    assert not watch.is_open(tmp_path / "run.1")
    clock.now = MISSED + 0.1
    assert watch.is_open(tmp_path / "run.1")


def test_who_was_taken_over_is_told_and_takes_nothing_back(tmp_path, hold):
    first, second = hold(0), hold(1)
    with pytest.raises(LostError, match="taken over"):
        first.check()
    first.give_back()
    assert not read(first.path).is_free
    second.check()
    assert take(tmp_path, "run", 1, "a third, that looked long ago") is None


def test_a_holder_finds_out_by_itself(hold):
    first = hold(0, beat=0.01)
    hold(1)
    assert first.lost.wait(60)


def test_who_cannot_count_gives_up_before_another_may_begin(tmp_path, hold, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "the server is gone")

    monkeypatch.setattr(leases.os, "pwrite", fail)
    began = time.monotonic()
    lease = hold(0, beat=0.05)
    assert lease.lost.wait(60)
    assert time.monotonic() - began >= 0.05 * MISSED / 2
    monkeypatch.undo()


def test_a_full_disk_stops_no_count(hold, monkeypatch):
    """It is written into bytes that are there: the file neither grows nor is made anew."""
    lease = hold(0)
    before = lease.path.stat()
    monkeypatch.setattr(leases.os, "write", lambda *_: pytest.fail("the file grows"))
    lease._count = 10**11
    lease._write(b"held")
    after = lease.path.stat()
    assert (after.st_size, after.st_ino) == (before.st_size, before.st_ino)
    assert read(lease.path).counted == 10**11


@given(st.lists(st.sampled_from(["claim", "kill", "give back", "wait"]), max_size=30))
def test_whatever_happens_at_most_one_holds_it(tmp_path_factory, steps):
    """Lookers take over what they see dead; whose number is highest holds, and no one else is told so."""
    folder, clock = tmp_path_factory.mktemp("leases"), Clock()
    watches, alive, all_of_them = [Watch(60.0, clock) for _ in range(2)], [], []
    for number, step in enumerate(steps):
        last = holders(folder).get("run", 0)
        path = folder / f"run.{last}"
        if step == "claim" and (not last or watches[number % 2].is_open(path)):
            lease = take(folder, "run", last, "", 60.0)
            assert lease is not None
            assert not [one for one in alive if not _is_lost(one)]
            alive.append(lease)
            all_of_them.append(lease)
        elif step == "kill" and alive:
            alive.pop()._over.set()  # it counts no more, and gives nothing back
        elif step == "give back" and alive:
            alive.pop().give_back()
        elif step == "wait":
            clock.now += 60.0 * MISSED
            for one in alive:
                one._count += 1
                one._write(b"held")
    for one in all_of_them:
        one.give_back()


def _is_lost(lease: leases.Lease) -> bool:
    try:
        lease.check()
    except LostError:
        return True
    return False


def test_in_place_of_a_lock(tmp_path: Path):
    """Who does not wait is told that another has it; a dead holder is waited for."""
    lease = acquire(tmp_path, "lock", wait=False, beat=0.1)
    assert acquire(tmp_path, "lock", wait=False, beat=0.1) is None
    lease._over.set()
    lease._thread.join()
    second = acquire(tmp_path, "lock", wait=False, beat=0.1)
    assert second.number == 2
    threading.Timer(0.2, second.give_back).start()
    acquire(tmp_path, "lock", wait=True, beat=0.1).give_back()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF])
def test_what_is_no_lock(number):
    assert leases.without_locks(OSError(number, os.strerror(number)))
    assert not leases.without_locks(BlockingIOError(errno.EAGAIN, "held"))
