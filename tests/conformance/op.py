"""The provider of the conformance cases: the development provider, with what it does wrong laid over it."""

import io
import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.conftest import Site
from tests.misbehaving import Misbehaviour

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

#: Paths that more than one module of cases speaks of.
METADATA = "/.well-known/openid-configuration"
KEYS = "/.well-known/jwks.json"
TOKEN = "/oauth2/token"
USERINFO = "/oauth2/userinfo"
REGISTER = "/oauth2/register"
AUTHORIZE = "/oauth2/authorize"
REVOKE = "/oauth2/revoke"


class Op(Misbehaviour):
    """
    Lies about answers, as its parent does; and four things more.

    Attributes:
        moved: Other paths of endpoints, by the provider's own.
        before: What happens when a path is asked for, before the answer is made.
        rewrite: Changes the JSON object that a path is sent, before the provider has it.
        callback: Changes the parameters that the browser brings back; ``None`` takes one away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.moved: dict[str, str] = {}
        self.before: dict[str, Callable[[], None]] = {}
        self.rewrite: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}
        self.callback: dict[str, str | None] = {}

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """Stand in front of *app*."""
        lying = super().wrap(app)

        def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            path = environ["PATH_INFO"]
            own = {there: here for here, there in self.moved.items()}
            environ["PATH_INFO"] = path = own.get(path, path)
            if path in self.before:
                self.before[path]()
            if path in self.rewrite:
                body = json.dumps(self.rewrite[path](json.load(environ["wsgi.input"]))).encode()
                environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))

            def send(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                return start_response(status, [(name, self._sent_back(value)) for name, value in headers])

            return lying(environ, send)

        return serve

    def _sent_back(self, value: str) -> str:
        """Change a header's value, if it sends the browser back to the site."""
        if not value.startswith(Site.origin):
            return value
        query = {name: values[0] for name, values in parse_qs(urlsplit(value).query).items()}
        kept = {name: text for name, text in (query | self.callback).items() if text is not None}
        return f"{value.partition('?')[0]}?{urlencode(kept)}"
