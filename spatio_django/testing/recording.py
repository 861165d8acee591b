"""What the provider was asked: one record per HTTP request, for tests to count and look at."""

import io
import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, parse_qsl

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """
    One request. No body, token or secret is kept, so that a failing test's output can be shown around.

    Attributes:
        method: ``GET``, ``POST``, …
        path: Without the query.
        query: The query's parameters, each with its last value.
        form: The names of the form fields, in the order they were sent.
        authorization: The scheme of the Authorization header (``Basic``, ``Bearer``), or an empty string.
        connection: Number of the TCP connection that carried it, counted from 1; 0 if there was none.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    form: tuple[str, ...] = ()
    authorization: str = ""
    connection: int = 0


class Recorder:
    """WSGI middleware, the outermost one, that keeps a :class:`RecordedRequest` of everything."""

    def __init__(self, app: "WSGIApplication") -> None:
        self.app = app
        self.requests: list[RecordedRequest] = []
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """Record, before the answer exists: whoever has the answer can count on the record."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        form: tuple[str, ...] = ()
        if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
            text = body.decode("utf-8", "replace")
            form = tuple(name for name, _ in parse_qsl(text, keep_blank_values=True))
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        record = RecordedRequest(
            method=environ["REQUEST_METHOD"],
            path=environ["PATH_INFO"],
            query={name: values[-1] for name, values in query.items()},
            form=form,
            authorization=environ.get("HTTP_AUTHORIZATION", "").partition(" ")[0],
            connection=environ.get("spatio.connection", 0),
        )
        with self._lock:
            self.requests.append(record)
        return self.app(environ, start_response)
