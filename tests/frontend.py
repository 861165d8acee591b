"""A reverse proxy as sites have it in front: TLS ends here, and the site is told nothing of it."""

import http.client
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import trustme


class Proxy(BaseHTTPRequestHandler):
    """Passes GET and POST on to the site behind, without a word about who asked, and over what."""

    backend = ""
    strip = ""
    host: str | None = None

    def pass_on(self) -> None:
        """Ask the site, and answer with its answer."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = dict(self.headers.items()) | ({} if self.host is None else {"Host": self.host})
        connection = http.client.HTTPConnection(self.backend, timeout=20)
        connection.request(self.command, self.path.removeprefix(self.strip), body, headers)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"content-length", "connection", "server", "date"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        connection.close()

    do_GET = do_POST = pass_on  # noqa: N815 - the names that the server looks for

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def proxy(backend: str, *, strip: str = "", host: str | None = None) -> Iterator[tuple[str, str]]:
    """
    Serve a site under https.

    Args:
        backend: Host and port of the site behind.
        strip: Path that the proxy takes off.
        host: Sent to the site instead of the browser's; as it is, if ``None``.

    Yields:
        Origin, and the file of the certificate authority that vouches for it.
    """
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    handler = type("Configured", (Proxy,), {"backend": backend, "strip": strip, "host": host})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = False
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        with authority.cert_pem.tempfile() as pem:
            yield f"https://localhost:{server.server_port}", pem
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
