"""A site of somebody else on this machine: one page, and one script."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def site(html: str, script: str = "", policy: str = "") -> Iterator[str]:
    """Serve the page at the address that is yielded, and the script at ``/script.js`` beside it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = {"/": ("text/html", html), "/script.js": ("text/javascript", script)}.get(self.path)
            kind, text = found or ("text/plain", "")
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            if policy:
                self.send_header("Content-Security-Policy", policy)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *words: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join(10)
