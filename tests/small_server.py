"""A tiny real HTTP server to kill, stop and start again: answers every GET with 200, and keeps what is posted.

python small_server.py PORT [FILE]     each POST becomes one line of FILE: monotonic time, path, headers, body
"""

import contextlib
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    posted: Path | None = None

    def do_GET(self) -> None:
        self.answer(200, b'{"result": {}, "status": "ok"}')

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.posted is not None:
            line = {"at": time.monotonic(), "path": self.path, "headers": dict(self.headers), "body": json.loads(body)}
            with self.posted.open("a") as file:
                file.write(json.dumps(line) + "\n")
        self.answer(202, b"{}")

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError):  # a client that went away, as all do when this was stopped
            super().handle()

    def log_message(self, *_: object) -> None:
        return


if __name__ == "__main__":
    Handler.posted = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.daemon_threads = True
    server.serve_forever()
