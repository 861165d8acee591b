"""The README's quickstart, registered."""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.urls import include, path

from benchmarks import people
from benchmarks.sites.catalogue import HOST
from spatio_django.conf import conf
from spatio_django.models import ConsumedState, SpatioAccount, SpatioClient, from_now
from spatio_django.oidc.secret import Secret

urlpatterns = [path("spatio/", include("spatio_django.urls"))]


def seed(users: Iterable[tuple[int, User]]) -> None:
    """Make the registration that ``spatio_register`` would, and an account for each user."""
    client = SpatioClient(
        issuer=conf.SPATIO_ISSUER,
        client_id=people.CLIENT_ID,
        client_name="Benchmark",
        auth_method="client_secret_basic",
        redirect_uris=[f"https://{HOST}/spatio/callback/"],
        scope=" ".join(people.SCOPES),
    )
    client.client_secret = Secret(people.CLIENT_SECRET)
    client.save()
    SpatioAccount.objects.bulk_create(
        (
            SpatioAccount(
                user=user,
                issuer=conf.SPATIO_ISSUER,
                sub=people.subject(number),
                claims=people.profile(number),
            )
            for number, user in users
        ),
        batch_size=500,
    )


_aged = 0


def age() -> None:
    """Leave what a site that is in use finds at each callback: one used state whose time is over."""
    global _aged
    _aged += 1
    ConsumedState.objects.create(digest=f"{_aged:064}", expires_ms=from_now(-1))
