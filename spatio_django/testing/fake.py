"""FakeSpatio: the development provider as an object."""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from spatio_django.testing.personas import PERSONAS, Persona
from spatio_django.testing.recording import RecordedRequest, Recorder

if TYPE_CHECKING:
    from http.cookiejar import CookieJar

    from _typeshed.wsgi import WSGIApplication

    from spatio_django.testing.server import Server


class FakeSpatio:
    """
    A complete OAuth 2.1 and OpenID Connect provider on a port of this machine.

    It behaves. Who needs a provider that doesn't wraps it (*wrap*) or signs what he likes (:meth:`sign`).

    Args:
        host: A loopback address; others are refused, since everybody may be anybody here.
        port: 0 takes a free one. Keep it fixed together with *state_file*: it is part of the issuer.
        personas: Who can sign in.
        state_file: Where to keep everything across restarts. It holds secrets, and is made with mode 0600.
        access_token_lifetime: Seconds.
        registration_limit: Registrations an hour from one address, as at Spatio; ``None`` for no limit.
            :meth:`register` doesn't count.
        send_iss: Send ``iss`` with authorization responses and say so in the metadata (RFC 9207); Spatio
            doesn't.
        id_token_has_profile: Put the claims of ``profile`` and ``email`` into ID tokens too.
        refresh_leeway: Seconds for which a refresh token that was exchanged works once more. Otherwise a
            second use ends the grant.
        wrap: WSGI middleware, called with the application, for tests that need misbehaviour.

    All but *host*, *port*, *state_file* and *wrap* are also attributes that may be changed while it runs.
    """

    issuer: str

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        personas: Sequence[Persona] = PERSONAS,
        state_file: Path | str | None = None,
        access_token_lifetime: int = 3600,
        registration_limit: int | None = 10,
        send_iss: bool = False,
        id_token_has_profile: bool = False,
        refresh_leeway: float = 0,
        wrap: "Callable[[WSGIApplication], WSGIApplication] | None" = None,
    ) -> None:
        try:
            from spatio_django.testing.provider import Provider
            from spatio_django.testing.server import require_loopback
            from spatio_django.testing.store import Store
        except ImportError as error:
            message = 'The development provider needs Authlib and Flask: pip install "spatio-django[testing]"'
            raise ImportError(message) from error
        require_loopback(host)
        self.host = host
        self.port = port
        self.personas = personas
        self.access_token_lifetime = access_token_lifetime
        self.registration_limit = registration_limit
        self.send_iss = send_iss
        self.id_token_has_profile = id_token_has_profile
        self.refresh_leeway = refresh_leeway
        self._wrap = wrap
        self._provider: Provider = Provider(self, Store(Path(state_file) if state_file else None))
        self._recorder: Recorder | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    # Running

    def start(self) -> None:
        """Listen, and serve from a daemon thread; ``issuer`` is known from here on."""
        from spatio_django.testing.app import create_app
        from spatio_django.testing.server import Server

        if self._thread is not None:
            raise RuntimeError("The provider is running already.")
        server = Server(self.host, self.port, None)
        self.port = server.port
        self.issuer = f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"
        app: Any = create_app(self._provider).wsgi_app
        self._recorder = Recorder(self._wrap(app) if self._wrap else app)
        server.app = self._recorder
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever, args=(0.02,), name=f"FakeSpatio {self.issuer}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening, end the open connections, and wait for every thread. The state stays."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._thread.join()
        self._server.close_connections()
        self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Looking

    @property
    def requests(self) -> list[RecordedRequest]:
        """Everything that was asked since the start, in order. Clear it to count from here."""
        return self._recorder.requests if self._recorder else []

    def calls(self, path: str) -> list[RecordedRequest]:
        """The requests for *path*."""
        return [request for request in self.requests if request.path == path]

    @property
    def connections(self) -> int:
        """How many TCP connections were accepted since the start."""
        return self._server.connections if self._server else 0

    # Doing

    def register(
        self,
        redirect_uris: Iterable[str],
        *,
        client_name: str = "A site in development",
        scope: str = "openid profile email",
        token_endpoint_auth_method: str = "client_secret_basic",  # noqa: S107 - a method, not a secret
    ) -> dict[str, Any]:
        """
        Register a client without HTTP, and return the answer that ``POST /oauth2/register`` gives.

        The defaults are a site's that signs people in, not the contract's (which is: public, ``read:*``).
        """
        from spatio_django.testing.registration import clean_metadata, create_client, describe

        metadata = clean_metadata(
            {
                "client_name": client_name,
                "redirect_uris": list(redirect_uris),
                "scope": scope,
                "token_endpoint_auth_method": token_endpoint_auth_method,
            }
        )
        return describe(self._provider, create_client(self._provider, metadata))

    def sign_in(
        self,
        authorization_url: str,
        *,
        persona: str = "ada",
        session: "CookieJar | None" = None,
        allow: bool = True,
    ) -> str:
        """
        Do what a person with a browser does, over HTTP, and return the URL the site is called back with.

        Args:
            authorization_url: Where the site sends the browser.
            persona: Who to be, if the provider asks.
            session: The browser's cookies. The same jar twice is the same browser; none is a new browser.
            allow: Press "Allow", or "Deny".

        Raises:
            AssertionError: The provider showed an error page; its text is in the message.
        """
        from http.cookiejar import CookieJar

        from spatio_django.testing.browser import Person

        jar = CookieJar() if session is None else session
        return Person(self.issuer, jar).sign_in(authorization_url, persona, allow=allow)

    def issue_pat(
        self,
        persona: str = "ada",
        *,
        scopes: Iterable[str] = ("read:*",),
        expires_in: float | None = None,
        workspace_id: str | None = None,
    ) -> str:
        """Make a personal access token, as somebody does in Spatio's settings."""
        from spatio_django.testing.store import AccessToken, random_token

        self._require_persona(persona)
        token = random_token("pat_")
        expires_at = None if expires_in is None else time.time() + expires_in
        row = AccessToken(
            token=token,
            kind="pat",
            persona=persona,
            scope=" ".join(scopes),
            expires_at=expires_at,
            workspace_id=workspace_id,
        )
        with self._provider.store.change() as tables:
            tables.access_tokens[token] = row
        return token

    def revoke_grants(self, persona: str | None = None) -> None:
        """End all grants with their tokens, of one persona or of all; what was consented to stays known."""
        if persona is not None:
            self._require_persona(persona)
        store = self._provider.store
        with store.change() as tables:
            for grant in list(tables.grants.values()):
                if persona in (None, grant.persona):
                    store.end_grant(grant.grant_id)

    def forget_browsers(self) -> None:
        """Sign everybody out of the provider: the next sign-in chooses a persona again."""
        with self._provider.store.change() as tables:
            tables.browsers.clear()

    def rotate_keys(self) -> None:
        """Sign with a new key from now on; the old one stays in the JWKS for a good hour."""
        _ = self.private_jwk  # made now, if nothing was signed before, so that there is an old one
        self._provider.keys.rotate()

    # Signing

    @property
    def private_jwk(self) -> dict[str, Any]:
        """The key that signs ID tokens now, private members included."""
        return self._provider.keys.private_jwk

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """
        Sign any claims with the current key: for tests of what a site refuses.

        Keyword arguments go into the protected header; ``None`` takes a member out of it.
        """
        return self._provider.keys.sign(claims, **header)

    def _require_persona(self, key: str) -> None:
        if self._provider.persona(key) is None:
            raise ValueError(f"There is no persona {key!r}.")
