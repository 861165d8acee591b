"""
What the provider saw, and what is wrong with it: the checks that the conformance suite makes in every module.

The observer stands between the wire and the provider, and keeps whole requests and answers, secrets included.
:func:`complaints` judges them as plain values, so that its own tests need no network.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_plus, urlsplit

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

DISCOVERY = "/.well-known/openid-configuration"
#: Where the person's browser goes inside the provider, beside the authorization endpoint.
PAGES = frozenset({"/consent", "/oauth2/authorize/confirm"})
#: How the person's browser calls itself (``spatio_django.testing.browser`` is urllib); the site does not.
BROWSER = "Python-urllib/"

AUTHORIZATION_PARAMETERS = frozenset(
    {
        *("response_type", "client_id", "redirect_uri", "scope", "state", "nonce"),
        *("code_challenge", "code_challenge_method", "prompt", "max_age"),
    }
)
#: 256 bits in base64url; a state, nonce or verifier with less would be a change for the worse.
LONG = re.compile(r"[A-Za-z0-9_-]{43,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request as it came to the provider, and the answer as it left."""

    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    status: int = 200
    location: str = ""
    answer: str = ""

    @property
    def name(self) -> str:
        """Method and path."""
        return f"{self.method} {self.path}"

    @property
    def by_browser(self) -> bool:
        """Whether the person's browser asked, and not the site."""
        return self.headers.get("User-Agent", "").startswith(BROWSER)

    @property
    def authorization(self) -> str:
        """The Authorization header, or an empty string."""
        return self.headers.get("Authorization", "")

    @property
    def form(self) -> dict[str, str]:
        """The fields that were posted."""
        return dict(parse_qsl(self.body, keep_blank_values=True))

    @property
    def document(self) -> dict[str, Any]:
        """The JSON object that was answered; empty if it was something else."""
        return json_object(self.answer)


class Observer:
    """WSGI middleware that keeps every exchange. The outermost: it sees what the site sees."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self._lock = threading.Lock()
        self._told = 0

    def wrap(self, app: "WSGIApplication") -> "WSGIApplication":
        """Stand in front of *app*."""

        def observing(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
            # The development provider hands in bodies as rewindable bytes.
            body = environ["wsgi.input"].read()
            environ["wsgi.input"].seek(0)
            path, query = environ["PATH_INFO"], environ.get("QUERY_STRING", "")
            started: list[Any] = []

            def note(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
                started[:] = [status, dict(headers)]
                return start_response(status, headers)

            answer = b"".join(app(environ, note))
            status, headers = started
            seen = Exchange(
                method=environ["REQUEST_METHOD"],
                path=path,
                query=query,
                headers={
                    key[5:].replace("_", "-").title(): value
                    for key, value in environ.items()
                    if key.startswith("HTTP_")
                }
                | {"Content-Type": environ.get("CONTENT_TYPE", "")},
                body=body.decode("utf-8", "replace"),
                status=int(status.split()[0]),
                location=headers.get("Location", ""),
                answer=answer.decode("utf-8", "replace"),
            )
            with self._lock:
                self.exchanges.append(seen)
            return [answer]

        return observing

    def calls(self) -> list[str]:
        """What the site asked, since this was asked last."""
        with self._lock:
            fresh, self._told = self.exchanges[self._told :], len(self.exchanges)
        return [exchange.name for exchange in fresh if not exchange.by_browser]

    def requests(self, name: str) -> list[Exchange]:
        """Everything of this name, in order."""
        return [exchange for exchange in self.exchanges if exchange.name == name]


def complaints(exchanges: Iterable[Exchange]) -> list[str]:
    """
    Tell what a relying party must not have done, in the order in which it did it.

    What is known about clients, codes and tokens is learnt from the answers, as they went over the wire.
    """
    return list(Judge().judge(exchanges))


class Judge:
    """The memory that the rules need, and the rules."""

    def __init__(self) -> None:
        self.endpoints: dict[str, str] = {}
        self.clients: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, dict[str, str]] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.access_tokens: set[str] = set()
        #: The newest refresh token of each grant, with the client and the scopes that it was given for.
        self.refresh_tokens: dict[str, tuple[str, set[str]]] = {}
        #: What must be in no URL, and what must not come twice.
        self.secrets: set[str] = set()
        self.random: set[str] = set()

    def judge(self, exchanges: Iterable[Exchange]) -> Iterator[str]:
        """Go through everything, then look for secrets in addresses."""
        exchanges = list(exchanges)
        for exchange in exchanges:
            if exchange.by_browser:
                yield from self.browser(exchange)
            else:
                yield from self.site(exchange)
        for exchange in exchanges:
            sent = f"{exchange.path}?{exchange.query} {exchange.headers.get('Referer', '')}"
            addresses = sent + unquote_plus(sent)
            if any(secret in addresses for secret in self.secrets):
                yield f"a secret in an address: {exchange.name}"

    def browser(self, exchange: Exchange) -> Iterator[str]:
        """Judge what the site sent the browser for, and learn which code it got."""
        if exchange.name == f"GET {self.endpoints.get('authorization_endpoint')}":
            yield from self.authorization(exchange.query)
        elif exchange.path not in PAGES:
            yield f"the browser was sent elsewhere: {exchange.name}"
        returned = dict(parse_qsl(urlsplit(exchange.location).query))
        if "code" in returned:
            self.codes[returned["code"]] = self.requests.get(returned.get("state", ""), {})

    def site(self, exchange: Exchange) -> Iterator[str]:
        """Judge a call of the site itself, and learn from the answer."""
        rules = {
            f"GET {DISCOVERY}": self.discovery,
            f"GET {self.endpoints.get('jwks_uri')}": self.plain,
            f"POST {self.endpoints.get('registration_endpoint')}": self.registration,
            f"POST {self.endpoints.get('token_endpoint')}": self.token,
            f"GET {self.endpoints.get('userinfo_endpoint')}": self.userinfo,
            f"POST {self.endpoints.get('revocation_endpoint')}": self.revocation,
        }
        if exchange.query:
            yield f"a call with a query: {exchange.name}"
        if exchange.name in rules:
            yield from rules[exchange.name](exchange)
        else:
            yield f"an unexpected call: {exchange.name}"

    # One rule per endpoint

    def discovery(self, exchange: Exchange) -> Iterator[str]:
        """Judge a look at the metadata, which say where everything else is."""
        yield from self.plain(exchange)
        for name, value in exchange.document.items():
            if name.endswith("_endpoint") or name == "jwks_uri":
                self.endpoints[name] = urlsplit(value).path

    def plain(self, exchange: Exchange) -> Iterator[str]:
        """Judge a look at something public: nothing is sent along."""
        if exchange.authorization or exchange.body:
            yield f"something was sent along: {exchange.name}"

    def registration(self, exchange: Exchange) -> Iterator[str]:
        """Judge a registration. RFC 7591 §2."""
        asked = json_object(exchange.body)
        uris = asked.get("redirect_uris")
        if not isinstance(uris, list) or not uris or not all(is_web_address(uri) for uri in uris):
            yield "redirect_uris is no list of addresses without fragment"
        if not set(asked.get("grant_types", ())) <= {"authorization_code", "refresh_token"}:
            yield "grant_types has an unknown one"
        if asked.get("response_types", ["code"]) != ["code"]:
            yield "response_types is not code"
        if "jwks" in asked and "jwks_uri" in asked:
            yield "jwks together with jwks_uri"
        if "openid" not in asked.get("scope", "").split():
            yield "registered without openid"
        for name in ("client_uri", "logo_uri", "policy_uri", "tos_uri"):
            if name in asked and not is_web_address(asked[name]):
                yield f"{name} is no address"
        if exchange.authorization:
            yield "a registration with credentials"
        client = exchange.document
        if "client_id" in client:
            self.clients[client["client_id"]] = client
        self.keep_secret(client, "client_secret", "registration_access_token")

    def authorization(self, query: str) -> Iterator[str]:
        """Judge an authorization request. OpenID Connect Core §3.1.2.1, RFC 7636 §4.3."""
        pairs = parse_qsl(query, keep_blank_values=True)
        asked = dict(pairs)
        if len(asked) < len(pairs):
            yield "authorize: a parameter is given twice"
        if not asked.keys() <= AUTHORIZATION_PARAMETERS:
            yield "authorize: a parameter that the provider does not have"
        client = self.clients.get(asked.get("client_id", ""), {})
        if not client:
            yield "authorize: client_id is not ours"
        if asked.get("response_type") != "code":
            yield "authorize: response_type is not code"
        if asked.get("redirect_uri") not in client.get("redirect_uris", ()):
            yield "authorize: redirect_uri is not registered"
        scopes = asked.get("scope", "").split()
        if "openid" not in scopes:
            yield "authorize: scope lacks openid"
        if not set(scopes) <= set(client.get("scope", "").split()):
            yield "authorize: a scope that is not registered"
        if asked.get("code_challenge_method") != "S256":
            yield "authorize: PKCE is not S256"
        for name in ("state", "nonce", "code_challenge"):
            yield from self.fresh(f"authorize: {name}", asked.get(name, ""))
        self.requests[asked.get("state", "")] = asked

    def token(self, exchange: Exchange) -> Iterator[str]:
        """Judge a token request, and learn what it brought."""
        yield from self.one_form("token", exchange)
        form, answer = exchange.form, exchange.document
        if form.get("grant_type") == "refresh_token":
            client_id, scopes = yield from self.refresh(form, answer)
        else:
            client_id, scopes = yield from self.code(form)
        yield from self.authentication("token", exchange.authorization, form, self.clients.get(client_id, {}))
        self.access_tokens.add(answer.get("access_token", ""))
        if "refresh_token" in answer:
            self.refresh_tokens[answer["refresh_token"]] = client_id, scopes
        self.keep_secret(form | answer, "code_verifier", "access_token", "refresh_token", "id_token")

    def one_form(self, name: str, exchange: Exchange) -> Iterator[str]:
        """Judge how something is posted."""
        if exchange.headers.get("Content-Type") != "application/x-www-form-urlencoded":
            yield f"{name}: not a form"
        if len(exchange.form) < len(parse_qsl(exchange.body, keep_blank_values=True)):
            yield f"{name}: a field is given twice"

    def code(self, form: dict[str, str]) -> Generator[str, None, tuple[str, set[str]]]:
        """Judge how a code is redeemed, and tell whose it is. RFC 6749 §4.1.3, RFC 7636 §4.5."""
        if form.get("grant_type") != "authorization_code":
            yield "token: grant_type is neither authorization_code nor refresh_token"
        request = self.codes.pop(form.get("code", ""), {})
        if not request:
            yield "token: the code is not ours, or was used"
        if form.get("redirect_uri") != request.get("redirect_uri"):
            yield "token: redirect_uri is another"
        verifier = form.get("code_verifier", "")
        yield from self.fresh("token: code_verifier", verifier)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        if digest != request.get("code_challenge"):
            yield "token: code_verifier does not fit"
        return request.get("client_id", ""), set(request.get("scope", "").split())

    def refresh(
        self, form: dict[str, str], answer: dict[str, Any]
    ) -> Generator[str, None, tuple[str, set[str]]]:
        """Judge how a refresh token is used, and tell whose it is. RFC 6749 §6."""
        token = form.get("refresh_token", "")
        known = self.refresh_tokens.get(token)
        if known is None:
            yield "token: the refresh token is not the newest of a grant"
        client_id, scopes = known or ("", set())
        if not set(form.get("scope", "").split()) <= scopes:
            yield "token: a refresh for more than was granted"
        if not form.keys() <= {"grant_type", "refresh_token", "scope", "client_id", "client_secret"}:
            yield "token: a refresh with what belongs to a code"
        if "refresh_token" in answer:
            self.refresh_tokens.pop(token, None)
        return client_id, scopes

    def revocation(self, exchange: Exchange) -> Iterator[str]:
        """Judge a revocation. RFC 7009 §2.1."""
        yield from self.one_form("revoke", exchange)
        form = exchange.form
        client_id, _ = self.refresh_tokens.get(form.get("token", ""), ("", set()))
        if not client_id and form.get("token") not in self.access_tokens:
            yield "revoke: no token of ours"
        if not form.keys() <= {"token", "client_id", "client_secret"}:
            yield "revoke: a field that the provider does not have"
        ways = [self.clients.get(client_id, {})] if client_id else list(self.clients.values())
        wrongs = [list(self.authentication("revoke", exchange.authorization, form, way)) for way in ways]
        yield from min(wrongs, key=len, default=["revoke: nobody is registered"])

    def authentication(
        self, name: str, header: str, form: dict[str, str], client: dict[str, Any]
    ) -> Iterator[str]:
        """Judge how the client authenticates: in the one registered way, and in no other beside it."""
        method, client_id = client.get("token_endpoint_auth_method"), client.get("client_id")
        secret = client.get("client_secret")
        scheme, _, encoded = header.partition(" ")
        if (scheme == "Basic") != (method == "client_secret_basic"):
            yield f"{name}: HTTP Basic is wrong for {method}"
        if ("client_secret" in form) != (method == "client_secret_post"):
            yield f"{name}: a secret in the body is wrong for {method}"
        if form.get("client_id", client_id if method == "client_secret_basic" else None) != client_id:
            yield f"{name}: client_id in the body is not ours"
        if scheme == "Basic":
            # Form-encoded, so that nothing but letters, digits and -._~ + % is left (RFC 6749 §2.3.1).
            user, _, password = base64.b64decode(encoded).decode().partition(":")
            if not re.fullmatch(r"[A-Za-z0-9._~*+%-]*:[A-Za-z0-9._~*+%-]*", f"{user}:{password}"):
                yield f"{name}: Basic credentials are not form-encoded"
            if (unquote_plus(user), unquote_plus(password)) != (client_id, secret):
                yield f"{name}: Basic credentials are not ours"
        if "client_secret" in form and form["client_secret"] != secret:
            yield f"{name}: the secret in the body is not ours"

    def userinfo(self, exchange: Exchange) -> Iterator[str]:
        """Judge a userinfo request: the token is in the header. RFC 6750 §2.1."""
        scheme, _, token = exchange.authorization.partition(" ")
        if scheme != "Bearer" or token not in self.access_tokens:
            yield "userinfo: the access token is not in the header"
        if exchange.body:
            yield "userinfo: a body"

    def keep_secret(self, document: dict[str, Any], *names: str) -> None:
        """Learn what must be in no address."""
        self.secrets |= {document[name] for name in names if document.get(name)}

    def fresh(self, name: str, value: str) -> Iterator[str]:
        """Judge a random value: long, and like no other that was ever sent."""
        if not LONG.fullmatch(value):
            yield f"{name} is short or missing"
        elif value in self.random:
            yield f"{name} was used before"
        self.random.add(value)


def json_object(text: str) -> dict[str, Any]:
    """Read a JSON object; anything else is an empty one."""
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def is_web_address(value: object) -> bool:
    """Tell whether *value* is an absolute web address without a fragment."""
    parts = urlsplit(value if isinstance(value, str) else "")
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and "#" not in str(value)
