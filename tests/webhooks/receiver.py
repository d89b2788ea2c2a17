"""A real HTTP server on the loopback that answers by a script and keeps what it was sent."""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from tests.waiting import PATIENCE


@dataclass(frozen=True)
class Received:
    """One request as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Receiver:
    """
    Args:
        answers: One for each request: a status, or the raw bytes of an answer. 200 when the script is over.
        tls: Serve https with this.
    """

    def __init__(self, *answers: int | bytes, tls: ssl.SSLContext | None = None) -> None:
        self._answers = list(answers)
        self._received: queue.Queue[Received] = queue.Queue()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._scheme = "https" if tls else "http"
        if tls:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_port)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/hook"

    def next(self) -> Received:
        """The next request, waited for."""
        return self._received.get(timeout=PATIENCE)

    def rest(self) -> list[Received]:
        """What has come and was not asked for yet."""
        rest = []
        while not self._received.empty():
            rest.append(self._received.get())
        return rest

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer = receiver._answers.pop(0) if receiver._answers else 200
                receiver._received.put(Received(self.path, dict(self.headers), body))
                if isinstance(answer, bytes):
                    self.wfile.write(answer)
                else:
                    self.send_response(answer)
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler
