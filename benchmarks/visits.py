"""
What the middleware costs each request: handlers with it and without it, in one process, turn by turn.

``python -m benchmarks.visits`` is that process. A *visit* is one call of Django's handler: no server, no
socket. Time is that of the processor, so that what else the machine does counts little.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from benchmarks import workers
from benchmarks.sites.catalogue import HOST, is_there, sqlite

#: The handlers: name, and what they have that the control has not.
ADDED: dict[str, str | None] = {
    "control": None,
    # Once more the same: by how much these two differ, nothing is known.
    "control again": None,
    "spatio": "spatio_django.middleware.SpatioMiddleware",
    "allauth": "allauth.account.middleware.AccountMiddleware",
    "mozilla": "mozilla_django_oidc.middleware.SessionRefresh",
}
DISTRIBUTIONS = {"allauth": "django-allauth", "mozilla": "mozilla-django-oidc"}
#: Pages: one that looks at nobody, and one that looks who is there.
PAGES = ("plain", "who")
#: Seconds for which the token of a visitor is good, where nothing is due.
LONG = 3600
VISITOR = "visitor"


def present() -> list[str]:
    """Give the names of the handlers whose packages are there."""
    return [name for name in ADDED if name not in DISTRIBUTIONS or is_there(DISTRIBUTIONS[name])]


class Visits:
    """
    The handlers of this process, and the visitor.

    Args:
        config: ``database`` (a path), and ``issuer`` of a provider that refreshes.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        import django
        from django.conf import settings

        from benchmarks.sites.catalogue import DJANGOS_BACKEND, SITES, django_settings

        base = django_settings(SITES["spatio"], issuer=config["issuer"], database=sqlite(config["database"]))
        self._plain = [each for each in base["MIDDLEWARE"] if not each.startswith("spatio_django.")]
        apps = [*base["INSTALLED_APPS"], *(["allauth", "allauth.account"] if "allauth" in present() else [])]
        changed = {
            "INSTALLED_APPS": apps,
            # All, for what looks into the settings; the handlers have theirs.
            "MIDDLEWARE": [*self._plain, *filter(None, (ADDED[name] for name in present()))],
            "ROOT_URLCONF": "benchmarks.sites.visited",
            "AUTHENTICATION_BACKENDS": [*base["AUTHENTICATION_BACKENDS"], DJANGOS_BACKEND],
            "OIDC_OP_AUTHORIZATION_ENDPOINT": f"{config['issuer']}/authorize",
            "OIDC_RP_CLIENT_ID": "storm",
        }
        settings.configure(**base | changed)
        django.setup()
        self._config = config
        self._cookie = ""
        self._wsgi: dict[str, Any] = {}
        self._asgi: dict[str, Any] = {}

    def prepare(self, family: dict[str, Any]) -> None:
        """Make the tables, the registration, one person who has signed in, and the handlers."""
        from django.core.handlers.asgi import ASGIHandler
        from django.core.handlers.wsgi import WSGIHandler
        from django.core.management import call_command
        from django.test import override_settings

        call_command("migrate", verbosity=0)
        self._sign_in(family)
        for name in present():
            extra = list(filter(None, [ADDED[name]]))
            with override_settings(MIDDLEWARE=[*self._plain, *extra]):
                self._wsgi[name] = WSGIHandler()
            with override_settings(MIDDLEWARE=["benchmarks.sites.visited.Visitor", *extra]):
                self._asgi[name] = ASGIHandler()

    def _sign_in(self, family: dict[str, Any]) -> None:
        from importlib import import_module

        from django.conf import settings
        from django.contrib import auth
        from django.contrib.auth.models import User

        from spatio_django.models import SpatioAccount, SpatioClient, SpatioToken, from_now
        from spatio_django.oidc.secret import Secret
        from spatio_django.tokens import SESSION_KEY
        from tests.refresh.provider import CLIENT_ID, CLIENT_SECRET

        issuer = self._config["issuer"]
        client = SpatioClient(
            issuer=issuer, client_id=CLIENT_ID, client_name="Visits", auth_method="client_secret_basic"
        )
        client.client_secret = Secret(CLIENT_SECRET)
        client.save()
        user = User.objects.create(username=VISITOR, password="!")  # noqa: S106 - no password fits
        account = SpatioAccount.objects.create(user=user, issuer=issuer, sub=family["sub"])
        claims = {"iss": issuer, "sub": family["sub"], "aud": CLIENT_ID, "iat": int(time.time())}
        grant = SpatioToken(
            account=account, client_id=CLIENT_ID, scope=family["scope"], id_token_claims=claims
        )
        grant.access_token = Secret(family["access_token"])
        grant.refresh_token = Secret(family["refresh_token"])
        grant.ttl_ms = LONG * 1000
        grant.expires_ms = from_now(LONG)
        grant.save(force_insert=True)
        session = import_module(settings.SESSION_ENGINE).SessionStore()
        session[auth.SESSION_KEY] = str(user.pk)
        session[auth.BACKEND_SESSION_KEY] = "spatio_django.backends.SpatioBackend"
        session[auth.HASH_SESSION_KEY] = user.get_session_auth_hash()
        session[SESSION_KEY] = grant.handle
        session["oidc_id_token_expiration"] = time.time() + LONG
        session.save()
        self._cookie = f"sessionid={session.session_key}"

    # Visits

    def _headers(self, *, signed_in: bool) -> dict[str, str]:
        return {"host": HOST, "accept": "text/html"} | ({"cookie": self._cookie} if signed_in else {})

    def _wsgi_visit(self, name: str, page: str, *, signed_in: bool) -> Callable[[], None]:
        handler = self._wsgi[name]
        environ = {
            "REQUEST_METHOD": "GET",
            "SCRIPT_NAME": "",
            "PATH_INFO": f"/{page}/",
            "QUERY_STRING": "",
            "SERVER_NAME": HOST,
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "192.0.2.1",
            "wsgi.url_scheme": "https",
            "wsgi.errors": BytesIO(),
            **{f"HTTP_{key.upper()}": text for key, text in self._headers(signed_in=signed_in).items()},
        }

        def visit() -> None:
            status: list[str] = []
            response = handler(environ | {"wsgi.input": BytesIO()}, lambda line, _: status.append(line))
            b"".join(response)
            response.close()
            assert status[0].startswith("200"), status  # noqa: S101

        return visit

    def _asgi_visit(self, name: str, page: str, *, signed_in: bool) -> Callable[[], Awaitable[None]]:
        from django.core.handlers.asgi import ASGIRequest

        handler = self._asgi[name]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https",
            "path": f"/async-{page}/",
            "raw_path": f"/async-{page}/".encode(),
            "query_string": b"",
            "root_path": "",
            "server": (HOST, 443),
            "client": ("192.0.2.1", 1),
            "headers": [
                (key.encode(), text.encode()) for key, text in self._headers(signed_in=signed_in).items()
            ],
        }

        async def visit() -> None:
            # Not the handler's own call: the signals around it wait for threads, which takes many times
            # longer than what is measured, and never the same.
            response = await handler.get_response_async(ASGIRequest(scope, BytesIO()))
            assert response.status_code == 200, response  # noqa: S101

        return visit

    def queries(self, name: str, page: str, signed_in: bool, due: str) -> list[str]:
        """Give the statements of one visit."""
        from django.core.signals import request_started
        from django.db import connection, reset_queries

        visit = self._wsgi_visit(name, page, signed_in=signed_in)
        visit()
        self._become(due)
        connection.force_debug_cursor = True
        # Django forgets the log at the beginning of each request, and that is what is asked for here, too.
        request_started.disconnect(reset_queries)
        reset_queries()
        try:
            visit()
            return [each["sql"] for each in connection.queries_log]
        finally:
            request_started.connect(reset_queries)
            connection.force_debug_cursor = False

    def _become(self, due: str) -> None:
        """Have that be due with the next visit: nothing, a ``look`` at the row, or a new ``token``."""
        if due == "nothing":
            return

        if due == "token":
            from spatio_django.models import SpatioToken, from_now

            SpatioToken.objects.update(expires_ms=from_now(1), retry_at_ms=0)
        from spatio_django.memo import memo

        memo.clear()

    def turn(self, name: str, page: str, signed_in: bool, due: str, count: int) -> list[float]:
        """Give the microseconds of the processor that each of *count* visits took."""
        visit = self._wsgi_visit(name, page, signed_in=signed_in)
        visit()
        taken = []
        with undisturbed():
            for _ in range(count):
                self._become(due)
                began = time.process_time_ns()
                visit()
                taken.append((time.process_time_ns() - began) / 1000)
        return taken

    def async_turn(self, name: str, page: str, signed_in: bool, due: str, count: int) -> list[float]:
        """Give the same for ASGI, in an event loop that runs already."""
        visit = self._asgi_visit(name, page, signed_in=signed_in)
        taken = []

        async def visits() -> None:
            await visit()
            with undisturbed():
                for _ in range(count):
                    began = time.process_time_ns()
                    await visit()
                    taken.append((time.process_time_ns() - began) / 1000)

        asyncio.run(visits())
        return taken


@contextmanager
def undisturbed() -> Iterator[None]:
    """Keep the garbage collector out of what is timed; each turn leaves its own behind."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def main() -> None:
    """Do what the parent says."""
    visits = Visits(workers.config())
    names = ("prepare", "queries", "turn", "async_turn")
    workers.serve({name: getattr(visits, name) for name in names})


if __name__ == "__main__":
    main()
