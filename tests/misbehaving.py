"""A provider that lies: what comes between the development provider's answers and the wire."""

import base64
import io
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Takes status, headers and body; gives what is sent instead.
Lie = Callable[[str, dict[str, str], bytes], tuple[str, dict[str, str], bytes]]


class Misbehaviour:
    """
    WSGI middleware that tells a lie for each path it has one for.

    Without a lie it passes everything on, so that a test can first see the honest case pass.

    Attributes:
        lies: By path.
        sent: Method, path and body of each request.
    """

    def __init__(self) -> None:
        self.lies: dict[str, Lie] = {}
        self.sent: list[tuple[str, str, bytes]] = []

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """Stand in front of *app*."""

        def lying(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            environ["wsgi.input"] = io.BytesIO(body)
            self.sent.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], body))
            lie = self.lies.get(environ["PATH_INFO"])
            if lie is None:
                return app(environ, start_response)
            seen: list[Any] = []

            def note(status: str, headers: Any, *rest: Any) -> Any:
                seen[:] = [status, dict(headers)]
                return lambda _: None

            answer = app(environ, note)
            status, headers, content = lie(seen[0], seen[1], b"".join(answer))
            if hasattr(answer, "close"):
                answer.close()
            headers["Content-Length"] = str(len(content))
            start_response(status, list(headers.items()))
            return [content]

        return lying

    def json(self, path: str, **changes: Any) -> None:
        """Change members of the JSON object at *path*; ``None`` takes one away."""

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            document = {**json.loads(body), **changes}
            kept = {name: value for name, value in document.items() if value is not None}
            return status, headers, json.dumps(kept).encode()

        self.lies[path] = lie

    def answer(
        self, path: str, status: str, body: bytes = b"", content_type: str = "application/json"
    ) -> None:
        """Answer *path* with this."""
        self.lies[path] = lambda *_: (status, {"Content-Type": content_type}, body)

    def id_token(self, sign: Callable[[dict[str, Any]], str], **changes: Any) -> None:
        """Change claims of the ID token, and sign it properly; ``None`` takes one away."""

        def lie(status: str, headers: dict[str, str], body: bytes) -> tuple[str, dict[str, str], bytes]:
            document = json.loads(body)
            payload = document["id_token"].split(".")[1]
            claims = {**json.loads(base64.urlsafe_b64decode(payload + "==")), **changes}
            kept = {name: value for name, value in claims.items() if value is not None}
            return status, headers, json.dumps({**document, "id_token": sign(kept)}).encode()

        self.lies["/oauth2/token"] = lie
