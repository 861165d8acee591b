"""Which URLs of a provider may be used at all. Imports nothing that talks."""

import ipaddress
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import urlsplit

from spatio_django.exceptions import ProtocolViolation

#: Where plain http is accepted: what is sent there does not leave the machine.
LOOPBACK_HOSTS = frozenset({"127.0.0.1", "::1", "localhost"})

_PORTS = {"http": 80, "https": 443}

#: Characters. Longer URLs meet limits in proxies and servers anyway.
MAX_URL = 2048

# Narrower than RFC 3986: no userinfo, no escapes in the host, nothing that two URL parsers read differently.
_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_.])?|\[[0-9a-f:.]+\])"
    r"(?::[0-9]{1,5})?"
    r"(?:[/?][a-z0-9._~:/?@!$&'()*+,;=%\[\]-]*)?",
    re.ASCII | re.IGNORECASE,  # else a long s and the Kelvin sign pass for "s" and "k"
)
# What browsers, and the C library, read as an IPv4 address, and others as a name: 127.1, 0x7f.1, 2130706433.
_NUMERIC_HOST = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")


def require_safe_url(url: object, *, member: str) -> str:
    """
    Return *url* unchanged if secrets may be sent to it.

    It is https with a host, or plain http with a loopback host; it has no user name, fragment, space,
    backslash or control character, no port 0, and an IPv4 address is written as four decimal numbers.

    Args:
        url: What the provider's document, or the site's settings, gave.
        member: Its name there, for the error.

    Raises:
        ProtocolViolation: ``insecure_url``.

    OpenID Connect Discovery 1.0 §3, RFC 8414 §2.
    """
    if isinstance(url, str) and len(url) <= MAX_URL and _is_safe(url):
        return url
    raise ProtocolViolation(
        f"{member} is not an https URL (plain http is for loopback hosts only).",
        code="insecure_url",
        member=member,
    )


@lru_cache(maxsize=64)  # the same few are called again and again
def _is_safe(url: str) -> bool:
    match = _URL.fullmatch(url)
    try:
        usable = match is not None and _has_one_reading(url)
    except ValueError:
        usable = False
    return usable and (urlsplit(url).scheme == "https" or is_loopback(url))


def _has_one_reading(url: str) -> bool:
    """Tell whether every parser finds the same host and port; :class:`ValueError` if one can't find any."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if _NUMERIC_HOST.fullmatch(host):
        ipaddress.IPv4Address(host)
    return parts.port != 0  # "no port" to some; and above 65,535 an error


def is_loopback(url: str) -> bool:
    """Whether *url* names this machine."""
    return urlsplit(url).hostname in LOOPBACK_HOSTS


class Origin(NamedTuple):
    """Scheme, host and port of a URL: where a connection leads. RFC 6454 §4."""

    scheme: str
    host: str
    port: int

    @property
    def name(self) -> str:
        """The host as a certificate calls it: without the dot that ends a name for the resolver."""
        return self.host.rstrip(".")

    @property
    def authority(self) -> str:
        """Host and port, for CONNECT. RFC 9112 §3.2.3."""
        return f"[{self.name}]:{self.port}" if ":" in self.host else f"{self.name}:{self.port}"

    @property
    def host_header(self) -> str:
        """The same, without the port that the scheme means anyway. RFC 9110 §7.2."""
        return self.authority.removesuffix(f":{_PORTS[self.scheme]}")


@lru_cache(maxsize=64)
def origin(url: str) -> Origin:
    """
    Return scheme, host and port of an http or https URL.

    Raises:
        ValueError: It has no host, or a port that is none; not if :func:`require_safe_url` accepted it.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return Origin(parts.scheme, parts.hostname, parts.port or _PORTS[parts.scheme])
