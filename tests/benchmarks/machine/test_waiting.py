from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time

import pytest

from benchmarks.machine import waiting
from benchmarks.machine.waiting import Waiting, _Usage


@pytest.fixture
def others(monkeypatch):
    """A machine of two cores, of which other programs use as many as `others[0]` says, looked at at each call."""
    ctypes.CDLL("libgomp.so.1")
    used, looks = [0.0], iter(range(10**6))
    monkeypatch.setattr(waiting._Usage, "now", lambda: _Usage(next(looks), 0, 0))
    monkeypatch.setattr(waiting._Usage, "others_since", lambda *_: used[0])
    monkeypatch.setattr(waiting, "usable_cores", lambda: 2)
    monkeypatch.setattr(waiting, "_SECONDS", 0)
    monkeypatch.setattr(waiting, "_FIRST_SECONDS", 0)
    for name in waiting._SET_BY_USER:
        monkeypatch.delenv(name, raising=False)
    return used


def test_threads_give_way_while_others_want_the_cores(others):
    before, adapted = threading.active_count(), Waiting(2)
    for cores, gives_way in ((0.0, False), (0.2, False), (0.3, True), (1.0, True), (0.0, False), (2.0, True)):
        others[0] = cores
        adapted.adapt()
        assert adapted.gives_way == gives_way
    adapted.close()
    assert threading.active_count() == before


def test_threads_that_leave_cores_free_give_way_later(others, monkeypatch):
    monkeypatch.setattr(waiting, "usable_cores", lambda: 4)
    adapted = Waiting(2)
    for cores, gives_way in ((2.0, False), (2.5, True)):
        others[0] = cores
        adapted.adapt()
        assert adapted.gives_way == gives_way
    adapted.close()


@pytest.mark.parametrize("name", waiting._SET_BY_USER)
def test_what_the_user_has_chosen_stays(others, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    others[0], adapted = 2.0, Waiting(2)
    adapted.adapt()
    assert not adapted.gives_way


def test_one_thread_waits_for_nobody(others):
    others[0], adapted = 2.0, Waiting(1)
    adapted.adapt()
    assert not adapted.gives_way


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="not Linux")
def test_the_work_of_others_is_measured():
    """Another process on this very core: whatever else the machine does, half a core and more is used by others."""
    core = min(os.sched_getaffinity(0))
    before_all = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        code = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
        with subprocess.Popen([sys.executable, "-c", code]) as busy:
            try:
                before = _Usage.now()
                time.sleep(1)
                after = _Usage.now()
            finally:
                busy.kill()
    finally:
        os.sched_setaffinity(0, before_all)
    assert before is not None
    assert after is not None
    assert after.others_since(before) > 0.5
