"""A run's TensorBoard log: one event file, its steps the epochs, written without TensorBoard, TensorFlow or threads.

An event file is a sequence of TFRecords: length (uint64), its masked CRC-32C, payload, its masked CRC-32C; all of it
little-endian. A payload is a protocol buffer `Event`, of which these fields are used: wall_time = 1 (double),
step = 2 (int64), file_version = 3 (string), summary = 5 {value = 1 {tag = 1 (string), simple_value = 2 (float)}},
session_log = 7 {status = 1 (enum, START = 1)}. A text is a summary value with metadata = 9 {plugin_data = 1
{plugin_name = 1 (string)}} and tensor = 8 {dtype = 1 (enum, DT_STRING = 7), tensor_shape = 2 {dim = 2 {size = 1}},
string_val = 8 (bytes)}.
Source: tensorflow/core/lib/io/record_writer.h, core/util/event.proto, core/framework/summary.proto.
"""

from __future__ import annotations

import contextlib
import functools
import struct
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from results.errors import RegistryFileError
from results.files import write_atomically

Row = Mapping[str, Any]  # an entry of the curve: column -> value


class TensorBoardLog:
    """The log in a folder. It is a view of the curve: what cannot be written is one warning and stops nothing."""

    def __init__(
        self,
        folder: Path,
        past: Iterable[tuple[float, Row]],
        texts: Mapping[str, str],
        notify: Callable[[str], None],
    ) -> None:
        """Begin a sitting: all steps so far are written anew, so that none is missing, doubled or of a lost epoch.

        Args:
            past: wall time (seconds since 1970) and entry of each epoch so far.
            texts: Markdown by name, shown among TensorBoard's texts.
            notify: is told if the log cannot be written.
        """
        self._notify = notify
        older = sorted(folder.glob("events.out.tfevents.*"))
        self._path = folder / _file_name(older)
        self._works = True
        # START makes a TensorBoard that is looking forget the steps of the older files.
        first = [_event(time.time(), 0, 3, b"brain.Event:2"), _event(time.time(), 0, 7, b"\x08\x01")]
        first += [_event(time.time(), 0, 5, _bytes(1, _text(tag, text))) for tag, text in texts.items()]
        with self._as_warning():
            write_atomically(self._path, b"".join([*first, *(_step(when, row) for when, row in past)]))
            for path in older:
                path.unlink(missing_ok=True)

    def add(self, row: Row) -> None:
        """Append the step of an epoch that has just ended."""
        self._append(_step(time.time(), row))

    def say(self, tag: str, text: str) -> None:
        """Append a text, Markdown."""
        self._append(_event(time.time(), 0, 5, _bytes(1, _text(tag, text))))

    def _append(self, event: bytes) -> None:
        with self._as_warning():
            if self._works:
                with self._path.open("ab") as file:
                    file.write(event)

    @contextlib.contextmanager
    def _as_warning(self) -> Any:
        try:
            yield
        except (OSError, RegistryFileError) as error:
            self._works = False  # half a record may be there: what follows it would not be read
            self._notify(f"the TensorBoard log is not written any more in this sitting: {error}")


def _file_name(older: list[Path]) -> str:
    """TensorBoard reads files in the order of their names: this one comes last, even if the clock went back."""
    stamps = [int(digits) for path in older if (digits := path.name.split(".")[3]).isdecimal()]
    return f"events.out.tfevents.{max([int(time.time()), *(stamp + 1 for stamp in stamps)])}.run"


def _step(when: float, row: Row) -> bytes:
    """The event of an epoch: all its scalars, those by class as <name>/<label>."""
    values = b""
    for column, value in row.items():
        name = column.replace("_", "/", 1)
        if isinstance(value, list):
            labeled = {f"{name}/{label}": of_class for label, of_class in enumerate(value) if of_class is not None}
        else:
            labeled = {} if column == "epoch" else {name: value}
        values += b"".join(_bytes(1, _bytes(1, tag.encode()) + _float(number)) for tag, number in labeled.items())
    return _event(when, row["epoch"], 5, values)


def _text(tag: str, text: str) -> bytes:
    """A summary's value for the plugin "text": a tensor of one string."""
    plugin = _bytes(1, _bytes(1, b"text"))
    shape = _bytes(2, _bytes(2, b"\x08\x01"))
    tensor = b"\x08\x07" + shape + _bytes(8, text.encode())
    return _bytes(1, tag.encode()) + _bytes(9, plugin) + _bytes(8, tensor)


def _float(value: float) -> bytes:
    """Field 2 of a summary's value; what is too large for float32 is infinite."""
    try:
        return b"\x15" + struct.pack("<f", value)
    except OverflowError:
        return b"\x15" + struct.pack("<f", float("inf") if value > 0 else float("-inf"))


def _event(when: float, step: int, field: int, content: bytes) -> bytes:
    """An Event as a TFRecord."""
    event = b"\x09" + struct.pack("<d", when) + (b"\x10" + _varint(step) if step else b"") + _bytes(field, content)
    length = struct.pack("<Q", len(event))
    return length + _masked_crc(length) + event + _masked_crc(event)


def _bytes(field: int, content: bytes) -> bytes:
    """A field of a protocol buffer that has a length: a string, or a message in it."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    groups = b""
    while number > 127:
        groups += bytes([number & 127 | 128])
        number >>= 7
    return groups + bytes([number])


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C (RFC 3720), rotated right by 15 bits, plus a constant."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _crc_table()[(crc ^ byte) & 255] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@functools.cache
def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901
        table.append(value)
    return table
