"""The provider as sites reach it: over https from some distance, or over plain http from next door."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import trustme

from benchmarks.workers import Worker


@dataclass(frozen=True, slots=True)
class Network:
    """
    A provider that is up.

    Attributes:
        issuer: Its address, through the proxy if there is a distance.
        bundle: Every authority that certifi knows, and ours: reading so many is a part of what a client pays
            that reads them again for each connection.
    """

    issuer: str
    bundle: Path
    provider: Worker

    def counts(self) -> dict[str, Any]:
        """Give calls by kind, and connections, since the provider is up."""
        counts: dict[str, Any] = self.provider.ask("counts")
        return counts


@contextmanager
def network(folder: Path, *, scheme: str, round_trip: float) -> Iterator[Network]:
    """
    Start a provider.

    Args:
        folder: For the certificates.
        scheme: ``https`` or ``http``.
        round_trip: Seconds between site and provider, there and back.
    """
    authority = trustme.CA()
    bundle, certificate = folder / "authorities.pem", folder / "provider.pem"
    bundle.write_bytes(Path(certifi.where()).read_bytes() + b"\n" + authority.cert_pem.bytes())
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    with ExitStack() as stack:
        tls = {"certificate": str(certificate) if scheme == "https" else None}
        provider = stack.enter_context(Worker("benchmarks.provider", tls, name="the provider"))
        port = provider.ask("port")
        if round_trip:
            way = {"port": port, "round_trip": round_trip}
            port = stack.enter_context(Worker("benchmarks.distance", way, name="the distance")).ask("port")
        issuer = f"{scheme}://127.0.0.1:{port}"
        provider.ask("begin", issuer=issuer)
        yield Network(issuer=issuer, bundle=bundle, provider=provider)
