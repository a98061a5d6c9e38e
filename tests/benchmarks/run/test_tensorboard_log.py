"""The TensorBoard log: the bytes that tensorboardX 2.6.5 writes, and which steps are there after kills."""

from __future__ import annotations

import struct
import types
from pathlib import Path

import pytest

from benchmarks.run import tensorboard_log
from benchmarks.run.tensorboard_log import TensorBoardLog

# Made with tensorboardX.proto and tensorboardX.record_writer.masked_crc32c: the version at 1.7e9 + 0.5, START at 1.25,
# and the row below at 2.5.
EXPECTED = bytes.fromhex(
    "1800000000000000a37f4b220900002040fc54d9411a0d627261696e2e4576656e743a322b3531100d000000000000003c37b834090000000000"
    "00f43f3a0208011173b1897a000000000000001389867809000000000000044010ac022a6c0a090a026c72156f12833a0a110a0a747261696e2f"
    "6c6f7373150000c03f0a180a11746573742f636c6173735f6c6f73732f30150000003f0a180a11746573742f636c6173735f6c6f73732f321500"
    "00803e0a180a11696d616765732f7065725f7365636f6e64150000807f3732759f"
)
ROW = {"epoch": 300, "lr": 0.001, "train_loss": 1.5, "test_class_loss": [0.5, None, 0.25], "images_per_second": 1e39}


def row(epoch: int) -> dict[str, float]:
    return {"epoch": epoch, "lr": 0.5}


def steps(folder: Path) -> list[int]:
    """The step of every scalar event, in the order in which TensorBoard reads them; records must be whole."""
    found = []
    for path in sorted(folder.glob("*tfevents*")):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event, data = data[12 : 12 + length], data[16 + length :]
            assert len(event) == length
            if event[9:10] == b"\x10":
                found.append(event[10])
    return found


def set_clock(monkeypatch: pytest.MonkeyPatch, *times: float) -> None:
    answers = iter(times)
    monkeypatch.setattr(tensorboard_log, "time", types.SimpleNamespace(time=lambda: next(answers)))


def test_the_bytes_are_those_of_tensorboardx(tmp_path, monkeypatch):
    set_clock(monkeypatch, 1.7e9, 1.7e9 + 0.5, 1.25, 2.5)
    log = TensorBoardLog(tmp_path, [], {}, pytest.fail)
    log.add(ROW)
    (path,) = tmp_path.iterdir()
    assert path.read_bytes() == EXPECTED
    assert path.name == "events.out.tfevents.1700000000.run"  # no host name


def test_texts_are_those_that_tensorboard_shows(tmp_path):
    """A summary value that TensorBoard 2.21 read as the tensor b"a *b*" of the plugin "text"."""
    TensorBoardLog(tmp_path, [], {"target": "a *b*"}, pytest.fail)
    (path,) = tmp_path.iterdir()
    value = b"\n\x06targetJ\x08\n\x06\n\x04textB\x0f\x08\x07\x12\x04\x12\x02\x08\x01B\x05a *b*"
    assert b"*" + bytes([len(value) + 2]) + b"\n" + bytes([len(value)]) + value in path.read_bytes()


def test_a_new_sitting_leaves_each_step_once(tmp_path):
    """Steps 2 and 3 were logged, and then lost with a kill; of step 4 half was; step 1 is of a log that lacks it."""
    log = TensorBoardLog(tmp_path, [], {}, pytest.fail)
    for epoch in (2, 3, 4):
        log.add(row(epoch))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    (tmp_path / "events.out.tfevents.1600000000.somehost").write_bytes(b"of format 1")
    log = TensorBoardLog(tmp_path, [(1.0, row(1)), (2.0, row(2))], {}, pytest.fail)
    for epoch in (3, 4):
        log.add(row(epoch))
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_a_clock_that_goes_back_is_no_harm(tmp_path, monkeypatch):
    set_clock(monkeypatch, *[2e9] * 3)
    TensorBoardLog(tmp_path, [], {}, pytest.fail)
    set_clock(monkeypatch, *[1e9] * 4)
    TensorBoardLog(tmp_path, [], {}, pytest.fail).add(row(1))
    assert [path.name for path in tmp_path.iterdir()] == ["events.out.tfevents.2000000001.run"]
    assert steps(tmp_path) == [1]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_log_that_cannot_be_written_is_one_warning(tmp_path, at_once):
    warnings: list[str] = []
    folder = tmp_path / "log"
    if at_once:
        folder.write_text("in the way")
    log = TensorBoardLog(folder, [], {}, warnings.append)
    if not at_once:
        (path,) = folder.iterdir()
        path.unlink()
        path.mkdir()
    for epoch in (1, 2, 3):
        log.add(row(epoch))
    (warning,) = warnings
    assert warning.startswith("the TensorBoard log is not written any more in this sitting: ")
