"""ApiSession: requests' session for the provider's API, which knows when and where to send a token."""

import os
import ssl
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import certifi
import requests
import requests.adapters
import requests.utils
from requests import Response

from spatio_django import __version__
from spatio_django.exceptions import ConfigurationError, ProtocolViolation, SessionEnded, TokenUnavailable
from spatio_django.oidc import message
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import is_loopback, origin, require_safe_url

__all__ = ["ApiSession", "Response", "checked_origin"]

#: Seconds to connect, and between two bytes. An API may stream for as long as it likes.
TIMEOUT = (5.0, 30.0)
POOL_SIZE = 32
#: What carries a request to the socket, in local variables; gevent and eventlet stand in for some of it.
CARRIERS = frozenset({"requests", "urllib3", "http", "ssl", "socket", "OpenSSL", "gevent", "eventlet"})


class ApiSession(requests.Session):
    """
    Calls on somebody's behalf.

    The access token is added to requests for *origins*, over https, and to nothing else, redirects included.
    A 401 has the token renewed, once, and the request sent again, once, if its body can be. Certificates are
    always checked; the environment (``~/.netrc``, proxies) is not read. Neither the token nor the proxy's
    password is in the local variables along the traceback of a call that fails, as error reports show them.

    Args:
        token: Gives the access token; called with the one that was rejected, it gives another.
        refused: Called if that one is rejected, too.
        origins: Such as ``https://api.spatio.app``.
        proxy: URL of a proxy for everything but loopback hosts.

    Raises:
        ConfigurationError: ``api_origins``, if one is not https (or a loopback one).

    RFC 6750 §2.1 and §3.
    """

    def __init__(
        self,
        *,
        token: Callable[[Secret | None], Secret],
        origins: Iterable[str],
        proxy: str | None,
        refused: Callable[[], object] = lambda: None,
    ) -> None:
        proxy = proxy and _Masked(proxy)  # a wrong origin, below, may be reported with this frame's variables
        super().__init__()
        self._token = token
        self._refused = refused
        self._origins = frozenset(map(checked_origin, origins))
        self._proxy = proxy
        self.trust_env = False
        self.headers["User-Agent"] = f"spatio-django/{__version__}"
        for scheme in ("https://", "http://"):
            self.mount(scheme, _adapter())

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> Response:
        """
        Send *request*, and each redirect that follows from it.

        Raises:
            SessionEnded, TokenUnavailable: There is no access token to send.
        """
        kwargs.setdefault("timeout", None)
        kwargs["timeout"] = kwargs["timeout"] or TIMEOUT
        url = request.url or ""
        if self._proxy and not is_loopback(url):
            kwargs["proxies"] = {"http": self._proxy, "https": self._proxy}
        if not self._is_ours(request, url):
            return self._send(request, **kwargs)
        token = self._token(None)
        self._authorize(request, token)
        response = self._send(request, **kwargs)
        if response.status_code != 401 or response.history or not _rewound(request):
            return response
        try:
            renewed = self._token(token)
        except SessionEnded:
            raise
        except TokenUnavailable:
            return response
        response.close()
        self._authorize(request, renewed)
        response = self._send(request, **kwargs)
        if response.status_code == 401:
            self._refused()
        return response

    def _send(self, request: requests.PreparedRequest, **kwargs: Any) -> Response:
        """
        Hand *request* to requests.

        When that fails, the header stands in the local variables of whatever carried it, and so in every
        error report that shows those: Django's page for developers and its mails to admins, for two. The
        error keeps its class, its words, and the frames of the site's hooks and bodies.
        """
        try:
            return super().send(request, **kwargs)
        except BaseException as error:
            _without_carriers(error)
            raise

    def rebuild_proxies(self, prepared_request: Any, proxies: Any) -> Any:
        """Leave the proxy's password out of redirected requests, which answers show: the adapter sends it."""
        proxies = super().rebuild_proxies(prepared_request, proxies)  # type: ignore[no-untyped-call]
        prepared_request.headers.pop("Proxy-Authorization", None)
        return proxies

    def close(self) -> None:
        """Do nothing: connections belong to the process."""

    def _is_ours(self, request: requests.PreparedRequest, url: str) -> bool:
        """Tell whether the access token belongs on *request*; take it off if a redirect brought it along."""
        if not isinstance(request.headers.get("Authorization", _OURS), _Bearer):
            return False  # the caller's own
        request.headers.pop("Authorization", None)
        return origin(url) in self._origins

    def _authorize(self, request: requests.PreparedRequest, token: Secret) -> None:
        request.headers["Authorization"] = _Bearer(message.bearer(token).reveal())


class _Masked(str):
    """
    Text to be sent, and not to be shown.

    It is in dictionaries that others keep (headers, proxies), whose ``repr`` is in error reports, and in
    answers, which somebody may put into a cache: a copy and a pickle have a placeholder.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, ("<hidden>",)


class _Bearer(_Masked):
    """A header that we set. It is known by its type wherever it was copied to, in whichever thread."""

    __slots__ = ()


def _without_carriers(error: BaseException) -> None:
    """Take the frames of :data:`CARRIERS` out of the tracebacks of *error* and of all that led to it."""
    seen: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        error_or_cause = left.pop()
        if error_or_cause is None or id(error_or_cause) in seen:
            continue
        seen.add(id(error_or_cause))
        # Not by assignment, which a site's error may have made impossible (a frozen dataclass).
        error_or_cause.with_traceback(_shortened(error_or_cause.__traceback__))
        left += [error_or_cause.__cause__, error_or_cause.__context__]


def _shortened(entry: TracebackType | None) -> TracebackType | None:
    kept: list[TracebackType] = []
    while entry is not None:
        module = str(entry.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in CARRIERS:
            kept.append(entry)
        entry = entry.tb_next
    shortened = None
    for entry in reversed(kept):
        shortened = TracebackType(shortened, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    return shortened


_OURS = _Bearer()


def checked_origin(url: str) -> tuple[str, str | None, int | None]:
    """
    Give the origin of *url*, if an access token may be sent there.

    Raises:
        ConfigurationError: ``api_origins``.
    """
    try:
        return origin(require_safe_url(url, member="SPATIO_API_ORIGINS"))
    except ProtocolViolation as error:
        raise ConfigurationError(str(error), code="api_origins") from None


def _rewound(request: requests.PreparedRequest) -> bool:
    """Put the body back to its beginning; ``False`` if it can be read only once."""
    if request._body_position is None:  # type: ignore[attr-defined]  # noqa: SLF001 - as rewind_body() does
        return not hasattr(request.body, "__next__")
    try:
        requests.utils.rewind_body(request)
    except requests.exceptions.UnrewindableBodyError:
        return False
    return True


class _Adapter(requests.adapters.HTTPAdapter):
    """requests' adapter with one TLS context for all connections, so that certificates are read once."""

    def __init__(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name by default
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.load_verify_locations(certifi.where())
        super().__init__(pool_connections=8, pool_maxsize=POOL_SIZE)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs, ssl_context=self._context)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        proxy = _Masked(proxy)  # requests has made a plain one of it
        contexts = {"ssl_context": self._context, "proxy_ssl_context": self._context}
        return super().proxy_manager_for(proxy, **kwargs, **contexts)

    def build_connection_pool_key_attributes(self, request: Any, verify: Any, cert: Any = None) -> Any:
        # With verify=False requests would switch the checks off, and with True read the certificates again.
        host, pool = super().build_connection_pool_key_attributes(request, True, cert)
        return host, {name: value for name, value in pool.items() if not name.startswith("ca_cert")}

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        conn.cert_reqs = "CERT_REQUIRED"


_adapters: dict[int, _Adapter] = {}


def _adapter() -> _Adapter:
    # By process: after a fork the parent's connections are not ours.
    return _adapters.get(os.getpid()) or _adapters.setdefault(os.getpid(), _Adapter())
