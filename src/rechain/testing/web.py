"""A throw-away web server with ranges, that can be told to break."""

from __future__ import annotations

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["WebServer"]


class WebServer:
    """Serves a folder on loopback, with ETags, ranges and pages of folders.

    Args:
        folder: what to serve.

    Attributes:
        url: its address.
        gets: how often each path was asked for, HEAD aside.
        cuts: how many of the next answers break off in the middle.
        ranges: whether parts of files can be asked for.
        hook: is called with each path that is asked for, HEAD aside, before the answer.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = os.fspath(folder)
        self.gets: dict[str, int] = {}
        self.cuts = 0
        self.ranges = True
        self.hook: Any = lambda path: None
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def do_HEAD(self) -> None:
                server._answer(self, body=False)

            def do_GET(self) -> None:
                server._answer(self, body=True)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> WebServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, to: BaseHTTPRequestHandler, *, body: bool) -> None:
        name = unquote(urlsplit(to.path).path).lstrip("/")
        path = os.path.join(self.folder, name)
        if body:
            self.hook(name)
        with self._lock:
            if body:
                self.gets[name] = self.gets.get(name, 0) + 1
            cut = body and self.cuts > 0 and os.path.isfile(path)
            self.cuts -= cut
        if os.path.isdir(path):
            if not name.endswith("/") and name:
                to.send_response(301)
                to.send_header("Location", f"{urlsplit(to.path).path}/")
                to.send_header("Content-Length", "0")
                to.end_headers()
                return
            names = [
                f"{one}/" if os.path.isdir(f"{path}/{one}") else one for one in os.listdir(path)
            ]
            links = [f'<a href="{one}">{one}</a>' for one in ["?C=N;O=D", "../", *names]]
            self._send(to, "\n".join(links).encode(), {}, body, "text/html")
        elif os.path.isfile(path):
            found = os.stat(path)
            headers = {"ETag": f'"{found.st_mtime_ns:x}-{found.st_size:x}"'}
            if self.ranges:
                headers["Accept-Ranges"] = "bytes"
            first, end, status = 0, found.st_size, 200
            wanted = to.headers.get("Range")
            if wanted and self.ranges:
                start, _, last = wanted.removeprefix("bytes=").partition("-")
                first, end = int(start), min(int(last) + 1, end) if last else end
                headers["Content-Range"] = f"bytes {first}-{end - 1}/{found.st_size}"
                status = 206
            with open(path, "rb") as file:
                file.seek(first)
                data = file.read(end - first) if body else b""
            headers["Content-Length"] = str(end - first)
            kind = "application/octet-stream"
            self._send(to, data, headers, body, kind, status=status, cut=cut)
        else:
            to.send_error(404)

    def _send(
        self, to: BaseHTTPRequestHandler, data: bytes, headers: dict[str, str], body: bool,
        kind: str, *, status: int = 200, cut: bool = False,
    ) -> None:  # fmt: skip
        to.send_response(status)
        to.send_header("Content-Type", kind)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            to.send_header(name, value)
        to.end_headers()
        if not body:
            return
        to.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            to.wfile.flush()
            to.close_connection = True
