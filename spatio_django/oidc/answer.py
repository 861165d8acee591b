"""Answer: what one HTTP call brought back, before anybody judged it."""

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

from spatio_django.exceptions import ProtocolViolation, ProviderUnavailable
from spatio_django.oidc.strict_json import parse_object

#: Seconds. A longer ``Retry-After`` is cut to this: nobody waits for more than a day.
MAX_RETRY_AFTER = 86_400.0

# IMF-fixdate, the one form of HTTP-date that is still generated (RFC 9110 §5.6.7).
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """
    Status, the few headers that matter, and a body of bounded size.

    Attributes:
        status: As received; never a redirect.
        headers: Lower-case names; only ``content-type``, ``retry-after``, ``www-authenticate`` and
            ``cache-control``.
        body: Not in ``repr``, because it may hold tokens.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    def json_object(self) -> dict[str, Any]:
        """
        Return the JSON object in the body.

        Raises:
            ProtocolViolation: ``not_json``, unless :func:`~spatio_django.oidc.strict_json.parse_object`
                accepts it.
        """
        document = parse_object(self.body)
        if document is None:
            raise ProtocolViolation(
                "The body is not one JSON object.",
                code="not_json",
                status=self.status,
                content_type=self.media_type,
            )
        return document

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case; empty if there is none."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def retry_after(self) -> float | None:
        """Seconds the provider asked to wait, 0 to 86,400; ``None`` if it did not say. RFC 9110 §10.2.3."""
        text = self.headers.get("retry-after", "").strip()
        if re.fullmatch(r"[0-9]{1,15}", text):
            return min(float(text), MAX_RETRY_AFTER)
        if _HTTP_DATE.fullmatch(text):
            try:
                seconds = parsedate_to_datetime(text).timestamp() - time.time()
            except ValueError:  # a 31 February
                return None
            return min(max(math.ceil(seconds), 0.0), MAX_RETRY_AFTER)
        return None

    def require_available(self) -> None:
        """
        Return if the status says something about the request; raise if it says "later".

        Raises:
            ProviderUnavailable: ``rate_limited`` for 429, ``bad_status`` for 500 and above.
        """
        if self.status == 429 or self.status >= 500:
            raise ProviderUnavailable(
                f"The provider answered {self.status}.",
                code="rate_limited" if self.status == 429 else "bad_status",
                retry_after=self.retry_after,
                status=self.status,
            )

    def unexpected(self) -> ProtocolViolation:
        """Return the error for a status that has no meaning here, for the caller to raise."""
        return ProtocolViolation(
            f"The provider answered {self.status}.", code="bad_status", status=self.status
        )
