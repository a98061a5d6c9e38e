"""Files are written whole; what is no file stays what it is."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

from results.files import write_atomically


def test_a_pipe_takes_the_data_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()), daemon=True)
    reader.start()
    write_atomically(pipe, b"data")
    reader.join(1 if not stat.S_ISFIFO(pipe.stat().st_mode) else None)
    assert (found, list(tmp_path.iterdir())) == ([b"data"], [pipe])
    assert stat.S_ISFIFO(pipe.stat().st_mode)
