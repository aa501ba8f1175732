"""A service in miniature for the supervisor's tests: answers /readyz, has a child of its own, ends as it is told."""

from __future__ import annotations

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Handler(BaseHTTPRequestHandler):
    """Always ready."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"status": "ok"}')

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    if os.environ.get("TOY_FAILS"):
        sys.exit("the toy cannot start: its spring is broken")
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    port = int(os.environ["MT_GATEWAY_URL"].rpartition(":")[2])
    HTTPServer(("127.0.0.1", port), Handler).serve_forever()
