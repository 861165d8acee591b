"""
The control: a refresh as it is written when nobody thinks of a second process.

Read the row; if the token is near its end, send the refresh token; store what comes. No lock, no lease, no
generation; it says in the row that it is about to send, for the traps to see, and heeds no such note. A storm
or a trap that this survives would prove nothing.
"""

import json
from base64 import b64encode
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode, urlsplit

from spatio_django.models import SpatioToken, from_now
from spatio_django.oidc.secret import Secret
from tests.refresh.provider import CLIENT_ID, CLIENT_SECRET


class Lost(Exception):
    """The provider takes the refresh token no more."""


def access_token(user: Any, *, token_endpoint: str, life: float) -> str:
    """
    Give the access token of the newest grant of *user*, refreshed if less than a quarter of its life is left.

    Raises:
        Lost: ``invalid_grant``.
    """
    grant = SpatioToken.objects.with_clock().filter(account__user=user).latest("pk")
    assert grant.access_token is not None
    assert grant.refresh_token is not None
    assert grant.seconds_left is not None
    if grant.seconds_left > life / 4:
        return grant.access_token.reveal()
    SpatioToken.objects.filter(pk=grant.pk).update(lease_id="naive")
    form = urlencode({"grant_type": "refresh_token", "refresh_token": grant.refresh_token.reveal()})
    where = urlsplit(token_endpoint)
    connection = HTTPConnection(where.netloc, timeout=20)
    try:
        connection.request(
            "POST",
            where.path,
            form,
            {
                "Content-Type": "application/x-www-form-urlencoded",
                "Authorization": f"Basic {b64encode(f'{CLIENT_ID}:{CLIENT_SECRET}'.encode()).decode()}",
            },
        )
        answer = connection.getresponse()
        document = json.loads(answer.read())
    finally:
        connection.close()
    if answer.status != 200:
        raise Lost(document["error"])
    grant.access_token = Secret(document["access_token"])
    grant.refresh_token = Secret(document["refresh_token"])
    grant.expires_ms = from_now(document["expires_in"])
    grant.save(update_fields=["access_ciphertext", "refresh_ciphertext", "expires_ms"])
    return str(document["access_token"])
