"""spatio_django.oidc.urls: where secrets may be sent."""

import pytest
import requests

from spatio_django.exceptions import ProtocolViolation
from spatio_django.oidc.urls import MAX_URL, origin, require_safe_url

SAFE = [
    "https://api.spatio.app",
    "https://api.spatio.app/",
    "HTTPS://API.spatio.app:8443/a/b?tenant=1&x=%20",
    "https://xn--bcher-kva.example/~user;v=1",
    "https://192.0.2.1",
    "https://1.provider.example",
    "https://provider.0xyz",
    "https://[2001:db8::1]/x",
    "https://host_name.example.",
    "http://localhost:8000/oauth2/token",
    "http://127.0.0.1",
    "http://[::1]:9000/",
]


@pytest.mark.parametrize("url", SAFE)
def test_https_and_loopback_urls_are_returned_unchanged(url: str) -> None:
    """Unchanged, since issuers are compared character by character; and requests can use each."""
    assert require_safe_url(url, member="token_endpoint") == url

    assert requests.Request("GET", url).prepare().url


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(None, id="null"),
        pytest.param(7, id="number"),
        pytest.param("", id="empty"),
        pytest.param("https://", id="no-host"),
        pytest.param("https:///path", id="no-host-but-a-path"),
        pytest.param("/oauth2/token", id="relative"),
        pytest.param("//provider.example", id="no-scheme"),
        pytest.param("http://provider.example", id="plain-http"),
        pytest.param("http://localhost.example", id="plain-http-like-localhost"),
        pytest.param("http://127.0.0.1.example", id="plain-http-like-an-address"),
        pytest.param("http://127.1", id="plain-http-short-address"),
        pytest.param("http://0.0.0.0", id="plain-http-any-address"),
        pytest.param("ftp://provider.example", id="ftp"),
        pytest.param("javascript:alert(1)", id="javascript"),
        pytest.param("https://user@provider.example", id="user"),
        pytest.param("https://user:pass@provider.example", id="password"),
        pytest.param("http://localhost:80@provider.example", id="loopback-as-user"),
        pytest.param("http://localhost\\@provider.example", id="backslash"),
        pytest.param("https://provider.example/#fragment", id="fragment"),
        pytest.param("https://provider.example/#", id="empty-fragment"),
        pytest.param("https://provider.example/a b", id="space"),
        pytest.param("https://provider.example/\r\nX: y", id="line-break"),
        pytest.param("https://provider.example/\n", id="trailing-line-break"),
        pytest.param(" https://provider.example", id="leading-space"),
        pytest.param("https://provider.example\t", id="tab"),
        pytest.param("https://pro%76ider.example", id="escape-in-host"),
        pytest.param("https://prövider.example", id="not-ascii"),
        pytest.param("https://\u017fpatio.example", id="long-s"),
        pytest.param("https://spatio.example/\u212a", id="kelvin-sign"),
        pytest.param("http\u017f://provider.example", id="long-s-in-the-scheme"),
        pytest.param("https://provider.example/ö", id="not-ascii-path"),
        pytest.param("https://.provider.example", id="leading-dot"),
        pytest.param("https://*.provider.example", id="wildcard"),
        pytest.param("https://provider.example:port", id="port-not-a-number"),
        pytest.param("https://provider.example:70000", id="port-too-large"),
        pytest.param("https://provider.example:80:80", id="two-ports"),
        pytest.param("https://provider.example:0", id="port-zero"),
        pytest.param("https://127.1", id="short-address"),
        pytest.param("https://2130706433", id="address-as-one-number"),
        pytest.param("https://0x7f.0.0.1", id="hexadecimal-address"),
        pytest.param("https://0177.0.0.1", id="octal-address"),
        pytest.param("https://127.0.0.1.", id="address-with-a-dot"),
        pytest.param("https://256.0.0.1", id="no-address"),
        pytest.param("https://provider.0x", id="hexadecimal-last-label"),
        pytest.param("https://[::1", id="bracket-open"),
        pytest.param("https://[::ffff:1:2:3:4:5:6:7]", id="not-an-address"),
        pytest.param("https://[fe80::1%25eth0]", id="zone"),
        pytest.param("https://provider.example/" + "a" * MAX_URL, id="too-long"),
    ],
)
def test_an_unsafe_url_is_refused(url: object) -> None:
    """Whatever two URL parsers might read differently is not a URL to send secrets to."""
    require_safe_url(SAFE[0], member="token_endpoint")

    with pytest.raises(ProtocolViolation) as caught:
        require_safe_url(url, member="token_endpoint")

    assert caught.value.code == "insecure_url"
    assert caught.value.context == {"member": "token_endpoint"}


@pytest.mark.parametrize(
    ("url", "authority", "header"),
    [
        ("https://provider.example", "provider.example:443", "provider.example"),
        ("HTTPS://Provider.Example:443/x?y=z", "provider.example:443", "provider.example"),
        ("https://provider.example.:8443/", "provider.example:8443", "provider.example:8443"),
        ("https://provider.example:80/", "provider.example:80", "provider.example:80"),
        ("http://localhost/", "localhost:80", "localhost"),
        ("https://[::1]/", "[::1]:443", "[::1]"),
        ("https://[::1]:4433/", "[::1]:4433", "[::1]:4433"),
    ],
)
def test_an_origin_says_where_a_request_is_sent(url: str, authority: str, header: str) -> None:
    """RFC 9112 §3.2.3 and RFC 9110 §7.2; the dot that ends a name is for the resolver alone."""
    require_safe_url(url, member="url")

    assert origin(url).authority == authority
    assert origin(url).host_header == header
    assert origin(url).host.startswith(origin(url).name)


@pytest.mark.parametrize("url", ["https:///path", "https://:443/", "https://provider.example:99999/"])
def test_an_origin_has_a_host_and_a_port(url: str) -> None:
    """What has none leads nowhere."""
    with pytest.raises(ValueError, match=r"host|[Pp]ort"):
        origin(url)
