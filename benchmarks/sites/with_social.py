"""social-auth-app-django's documented URLs."""

from collections.abc import Iterable

from django.contrib.auth.models import User
from django.urls import include, path
from social_django.models import UserSocialAuth

from benchmarks import people

urlpatterns = [path("", include("social_django.urls", namespace="social"))]


def seed(users: Iterable[tuple[int, User]]) -> None:
    """Join each user to their account."""
    UserSocialAuth.objects.bulk_create(
        (
            UserSocialAuth(
                user=user,
                provider="oidc",
                id_key="sub",
                uid=people.subject(number),
                extra_data={"sub": people.subject(number)},
            )
            for number, user in users
        ),
        batch_size=500,
    )
