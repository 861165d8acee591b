"""django-allauth's documented URLs."""

from collections.abc import Iterable

from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import User
from django.urls import include, path

from benchmarks import people

urlpatterns = [path("accounts/", include("allauth.urls"))]


def seed(users: Iterable[tuple[int, User]]) -> None:
    """Join each user to their account, and to their verified address."""
    accounts, addresses = [], []
    for number, user in users:
        extra = {"userinfo": people.profile(number), "id_token": people.profile(number)}
        accounts.append(
            SocialAccount(user=user, provider="spatio", uid=people.subject(number), extra_data=extra)
        )
        addresses.append(EmailAddress(user=user, email=user.email, verified=True, primary=True))
    SocialAccount.objects.bulk_create(accounts, batch_size=500)
    EmailAddress.objects.bulk_create(addresses, batch_size=500)
