"""A real HTTP server on 127.0.0.1 that serves files well or badly, as a test asks."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from data_prep.fetch.download import Artifact


def artifact_of(name: str, data: bytes) -> Artifact:
    return Artifact(name, len(data), hashlib.sha256(data).hexdigest())


@dataclass
class Mirror:
    """What to serve and how. `asked` collects (path, Range header) of every request."""

    files: dict[str, bytes]
    ranges: bool = True  # answer a Range request with 206
    break_after: int | None = None  # bytes of a body before the connection is cut
    stall_after: int | None = None  # bytes of a body before nothing more comes
    shift: int = 0  # answer a Range request with bytes this much later than asked for
    status: int | None = None  # answer everything with this
    declare_length: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def __enter__(self) -> Mirror:
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        data = self.files.get(request.path.lstrip("/"))
        if self.status is not None or data is None:
            request.send_error(self.status or 404)
            return
        if wanted and self.ranges:
            start = int(wanted.removeprefix("bytes=").rstrip("-")) + self.shift
            if start >= len(data):
                request.send_error(416)
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            data = data[start:]
        else:
            request.send_response(200)
        if self.declare_length:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        cut = self.break_after if self.break_after is not None else self.stall_after
        request.wfile.write(data[:cut])
        request.wfile.flush()
        if self.stall_after is not None:
            request.connection.recv(1)  # returns when the client has had enough
        request.close_connection = True
