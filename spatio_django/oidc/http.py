"""
Http: the only way out to the network.

Every failure is one of these:

=============  =======================  ============================================================
code           class                    when
=============  =======================  ============================================================
unreachable    ``ProviderUnavailable``  no connection: name lookup, refused, proxy, no thread to be had
tls            ``ProviderUnavailable``  the handshake failed, or the certificate does not hold
timeout        ``ProviderUnavailable``  time was up, and no complete answer had come by then
late           ``ProviderUnavailable``  ready to send only after the caller's ``send_by``; nothing was sent
interrupted    ``ProviderUnavailable``  the connection broke, or what came was not HTTP, or its head endless
insecure_url   ``ProtocolViolation``    not https, see :func:`~spatio_django.oidc.urls.require_safe_url`
redirect       ``ProtocolViolation``    a 3xx: following it could take a secret to another host
encoded        ``ProtocolViolation``    a compressed body, which nobody asked for; or no gzip, with *inflate*
too_large      ``ProtocolViolation``    more than the caller's limit
access_token   ``ProtocolViolation``    a bearer token that does not fit into a header; nothing was sent
ca_bundle      ``ConfigurationError``   the certificates of certifi can't be read
not_json       ``ProtocolViolation``    from :meth:`Answer.json_object`
=============  =======================  ============================================================

Where a call was made, the context says ``endpoint`` (the URL without its query) and, for
``ProviderUnavailable``, ``sent``: whether the provider may have acted on the request. No error chains to the
one that caused it: its frames hold the request, headers and body.
"""

import http.client
import json
import os
import re
import ssl
import zlib
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import certifi

from spatio_django import __version__
from spatio_django.exceptions import ConfigurationError, ProtocolViolation, ProviderUnavailable, SpatioError
from spatio_django.oidc import message
from spatio_django.oidc.answer import Answer
from spatio_django.oidc.call import Call, Dialer, TooLate, Watchdog
from spatio_django.oidc.connection import Connection, Idle, Proxy
from spatio_django.oidc.framing import StrictResponse
from spatio_django.oidc.message import Message
from spatio_django.oidc.secret import Secret
from spatio_django.oidc.urls import LOOPBACK_HOSTS, Origin, origin, require_safe_url

__all__ = ["Answer", "Http", "require_safe_url"]

JSON = "application/json"
#: Bytes read at once. http.client lists the chunks that make them up, and those can have a byte each.
READ_SIZE = 16 * 1024

_KEPT_HEADERS = ("content-type", "retry-after", "www-authenticate", "cache-control")
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{1,1024}")


class Http:
    """
    HTTPS calls with one deadline each.

    Certificates are always checked, against the bundle of certifi. Redirects are not followed, no
    cookie is kept, and the environment (``HTTPS_PROXY``, ``~/.netrc``, ``REQUESTS_CA_BUNDLE``) is not read.
    Connections are pooled and kept alive. Safe to share between threads, and across ``fork``.

    Args:
        timeout: Seconds for one whole call: name lookup, connection, TLS, headers and body together.
        proxy: URL of an http or https proxy for everything but loopback hosts.
        user_agent: Sent with each request.

    Raises:
        ConfigurationError: ``proxy``, if that is not such a URL.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        proxy: str | None = None,
        user_agent: str = f"spatio-django/{__version__}",
    ) -> None:
        self._timeout = timeout
        self._proxy = None if proxy is None else _proxy(proxy)
        self._user_agent = user_agent
        self._channels: dict[int, _Channel] = {}

    def get(
        self, url: str, *, limit: int, bearer: Secret | None = None, timeout: float | None = None
    ) -> Answer:
        """
        GET *url*.

        If the server closes a kept-alive connection in the very moment it is used again, the call is made
        once more on a new one, within the same time.

        Args:
            url: Checked with :func:`~spatio_django.oidc.urls.require_safe_url`.
            limit: Bytes that the body may have.
            bearer: Access token for the ``Authorization`` header (RFC 6750 §2.1).
            timeout: Seconds for this call instead of the usual.

        Raises:
            ProviderUnavailable, ProtocolViolation: See the list at the top of the module.
        """
        authorization = None if bearer is None else message.bearer(bearer)
        request = Message(method="GET", url=url, authorization=authorization)
        return self._send(request, limit=limit, timeout=timeout)

    def post_form(
        self,
        url: str,
        fields: Mapping[str, str | Secret],
        *,
        limit: int,
        basic: tuple[str, Secret] | None = None,
        timeout: float | None = None,
        send_by: float | None = None,
        fresh: bool = False,
        inflate: bool = False,
    ) -> Answer:
        """
        POST *fields* form-encoded. Never repeated by itself.

        Args:
            url: As in :meth:`get`.
            fields: Secrets are revealed only in the request's body.
            limit: As in :meth:`get`.
            basic: Client id and secret for HTTP Basic, each form-encoded first (RFC 6749 §2.3.1).
            timeout: As in :meth:`get`.
            send_by: Give up rather than send later than this, on the monotonic clock: what the caller knew
                when it decided to send may not hold any more.
            fresh: Use a new connection and close it afterwards: nothing can go wrong with its past.
            inflate: Take a body in gzip, though nobody asked for one. *limit* holds before and after.

        Raises:
            ProviderUnavailable, ProtocolViolation: See the list at the top of the module.
        """
        request = Message(
            method="POST",
            url=url,
            authorization=None if basic is None else message.basic(*basic),
            body=message.form(fields),
            content_type="application/x-www-form-urlencoded",
        )
        return self._send(
            request, limit=limit, timeout=timeout, send_by=send_by, fresh=fresh, inflate=inflate
        )

    def post_json(
        self, url: str, document: Mapping[str, Any], *, limit: int, timeout: float | None = None
    ) -> Answer:
        """
        POST *document* as JSON. Never repeated by itself.

        Args:
            url: As in :meth:`get`.
            document: Ours, so it is trusted to be JSON.
            limit: As in :meth:`get`.
            timeout: As in :meth:`get`.

        Raises:
            ProviderUnavailable, ProtocolViolation: See the list at the top of the module.
        """
        request = Message(method="POST", url=url, body=_json(document), content_type=JSON)
        return self._send(request, limit=limit, timeout=timeout)

    def put_json(self, url: str, document: Mapping[str, Any], *, limit: int, bearer: Secret) -> Answer:
        """
        PUT *document* as JSON. Never repeated by itself: the answer may hold what is shown once.

        Args:
            url: As in :meth:`get`.
            document: As in :meth:`post_json`.
            limit: As in :meth:`get`.
            bearer: Sent in the ``Authorization`` header.

        Raises:
            ProviderUnavailable, ProtocolViolation: See the list at the top of the module.
        """
        request = Message(
            method="PUT",
            url=url,
            authorization=message.bearer(bearer),
            body=_json(document),
            content_type=JSON,
        )
        return self._send(request, limit=limit, timeout=None)

    def close(self) -> None:
        """Close idle connections. The next call opens new ones."""
        channel = self._channels.pop(os.getpid(), None)
        if channel is not None:
            channel.idle.close()

    def _send(
        self,
        request: Message,
        *,
        limit: int,
        timeout: float | None,
        send_by: float | None = None,
        fresh: bool = False,
        inflate: bool = False,
    ) -> Answer:
        require_safe_url(request.url, member="url")
        channel = self._channel()
        call = Call(self._timeout if timeout is None else timeout, send_by=send_by)
        try:
            outcome = self._attempt(request, channel, call, limit=limit, fresh=fresh, inflate=inflate)
            if request.method == "GET" and call.reused and _broke(outcome):
                outcome = self._attempt(request, channel, call, limit=limit, fresh=True, inflate=inflate)
        finally:
            call.finish()
        if isinstance(outcome, SpatioError):
            raise outcome
        return outcome

    def _attempt(
        self,
        request: Message,
        channel: "_Channel",
        call: Call,
        *,
        limit: int,
        fresh: bool,
        inflate: bool,
    ) -> Answer | SpatioError:
        """Return errors instead of raising them, so that they neither chain to nor point into http.client."""
        endpoint = request.url.partition("?")[0]
        connection = None
        keep = is_whole = False
        try:
            channel.watchdog.watch(call)
            destination = origin(request.url)
            connection = None if fresh else channel.idle.take(destination)
            call.reused = connection is not None
            if connection is None:
                connection = channel.opened(destination, self._proxy, call)
            data = request.encoded(host=destination.host_header, user_agent=self._user_agent)
            response = connection.ask(request.method, data, call)
            with closing(response):
                outcome = _read(response, limit=limit, endpoint=endpoint, inflate=inflate)
                is_whole = response.is_framed and isinstance(outcome, Answer)
                keep = not fresh and response.isclosed() and not response.will_close
        except TooLate:
            outcome = ProviderUnavailable(
                "It took too long to connect.", code="late", endpoint=endpoint, sent=False
            )
        except (
            http.client.HTTPException,
            OSError,
            ValueError,
            RuntimeError,  # no thread to be had: the process is ending, or at its limit
        ) as error:
            outcome = _failure(error, call, endpoint)
        finally:
            call.release()
            if connection is not None:
                if keep and not call.expired:
                    channel.idle.keep(connection)
                else:
                    connection.close()
        # A complete answer counts, however late it was read. It may have waited for a process that was
        # stopped, and hold the successor of a refresh token that is used up.
        return _timeout(call, endpoint) if call.expired and not is_whole else outcome

    def _channel(self) -> "_Channel":
        # Keyed by process: after a fork the parent's sockets, locks and threads are not ours to touch.
        # setdefault is atomic, so that threads agree on one without a lock that a fork could leave locked.
        pid = os.getpid()
        try:
            return self._channels.get(pid) or self._channels.setdefault(pid, _Channel())
        except OSError:
            raise ConfigurationError(
                "The bundle of CA certificates can't be read.", code="ca_bundle"
            ) from None


class _Channel:
    """What one process shares between its calls."""

    def __init__(self) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks chain and host name by default
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._context.set_alpn_protocols(["http/1.1"])
        self._context.load_verify_locations(certifi.where())
        self._dialer = Dialer()
        self.watchdog = Watchdog()
        self.idle = Idle()

    def opened(self, destination: Origin, proxy: Proxy | None, call: Call) -> Connection:
        """Open a connection; through the proxy, unless it stays on this machine."""
        return Connection.opened(
            destination,
            proxy=None if destination.host in LOOPBACK_HOSTS else proxy,
            context=self._context,
            dialer=self._dialer,
            call=call,
        )


def _proxy(url: str) -> Proxy:
    try:
        if re.fullmatch(r"https?://[\x21-\x7e]+", url):
            return Proxy.of(url)
    except ValueError:  # no host, or no port
        pass
    raise ConfigurationError("The proxy is not an http or https URL.", code="proxy")


def _json(document: Mapping[str, Any]) -> Secret:
    return Secret(json.dumps(document, allow_nan=False))


def _read(response: StrictResponse, *, limit: int, endpoint: str, inflate: bool) -> Answer | SpatioError:
    status = response.status
    if status < 200:
        # 101: what follows would be taken for the next request's answer, but a connection is closed if its
        # answer was not read.
        return ProviderUnavailable(
            "The server speaks another protocol from here on.",
            code="interrupted",
            endpoint=endpoint,
            sent=True,
            status=status,
        )
    if 300 <= status < 400:
        return ProtocolViolation("A redirect is not followed.", code="redirect", endpoint=endpoint)
    encoding = response.getheader("content-encoding", "identity").strip().lower()
    if encoding != "identity" and not (inflate and encoding == "gzip"):
        return _encoded(endpoint)
    body = _body(response, limit)
    if body is not None and encoding == "gzip":
        try:
            body = _inflated(body, limit)
        except zlib.error:
            return _encoded(endpoint)
    if body is None:
        return ProtocolViolation(f"The body exceeds {limit} bytes.", code="too_large", endpoint=endpoint)
    # RFC 9110 §5.6.3: white space around a value, tabs too, is none of it.
    kept = {name: response.getheader(name, "").strip(" \t") for name in _KEPT_HEADERS}
    headers = {name: value for name, value in kept.items() if _HEADER_VALUE.fullmatch(value)}
    return Answer(status=status, headers=headers, body=body)


def _body(response: StrictResponse, limit: int) -> bytes | None:
    """Read all of it; ``None`` if that is more than *limit* bytes."""
    if response.length is not None:
        return response.read() if response.length <= limit else None
    body = b""
    while len(body) <= limit:
        part = response.read(min(limit + 1 - len(body), READ_SIZE))
        if not part:
            return body
        body += part
    return None


def _inflated(body: bytes, limit: int) -> bytes | None:
    """Inflate a gzip member; ``None`` if it makes more than *limit* bytes. A bomb never unfolds."""
    data = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16).decompress(body, limit + 1)
    return data if len(data) <= limit else None


def _encoded(endpoint: str) -> SpatioError:
    return ProtocolViolation("The body is compressed.", code="encoded", endpoint=endpoint)


def _failure(error: Exception, call: Call, endpoint: str) -> SpatioError:
    if call.expired or isinstance(error, TimeoutError):
        return _timeout(call, endpoint)
    if call.sent:
        code, message = "interrupted", "The connection broke."
    elif isinstance(error, ssl.SSLError):
        code, message = "tls", "The TLS handshake failed."
    else:
        code, message = "unreachable", "No connection to the provider."
    return ProviderUnavailable(
        message, code=code, endpoint=endpoint, sent=call.sent, cause=type(error).__name__
    )


def _timeout(call: Call, endpoint: str) -> SpatioError:
    return ProviderUnavailable(
        "The provider did not answer in time.", code="timeout", endpoint=endpoint, sent=call.sent
    )


def _broke(outcome: Answer | SpatioError) -> bool:
    return isinstance(outcome, ProviderUnavailable) and outcome.code == "interrupted"
