"""
Move a site in as one page says, and print as JSON how it went. Run as a program, once per page.

People sign in through the old package first, over HTTP, so that its rows are the ones that it writes itself.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from io import StringIO
from typing import TYPE_CHECKING, Any

from tests.moving.page import code, commands

if TYPE_CHECKING:
    from django.test import Client

    from spatio_django.testing import FakeSpatio

ORIGIN = "http://testserver"
#: How each package is entered: where its sign-in begins, whether by a POST, and where it is called back.
ENTRANCES = {
    "from-allauth.md": ("/accounts/oidc/spatio/login/", True, "/accounts/oidc/spatio/login/callback/"),
    "from-social-auth.md": ("/old/login/oidc/", True, "/old/complete/oidc/"),
    "from-mozilla-django-oidc.md": ("/oidc/authenticate/", False, "/oidc/callback/"),
}


class Walk:
    """One site, moving."""

    def __init__(self, page: str, spatio: "FakeSpatio") -> None:
        self.page = page
        self.spatio = spatio
        self.report: dict[str, Any] = {}

    def browser(self) -> "Client":
        """Open a browser that has never been here."""
        from django.test import Client

        self.spatio.forget_browsers()
        return Client(headers={"Sec-Fetch-Mode": "navigate"})

    def through(self, browser: "Client", persona: str, *, spatio: bool) -> str:
        """Sign in with Spatio's button or the old one; tell who that is then."""
        start, posted, _ = ("/spatio/login/", False, "") if spatio else ENTRANCES[self.page]
        url = (browser.post if posted else browser.get)(start)["Location"]
        answer = browser.get(self.spatio.sign_in(url, persona=persona).removeprefix(ORIGIN))
        assert answer.status_code == 302, answer.content.decode()
        return str(browser.get("/state/").json()["user"])

    def old(self, persona: str) -> str:
        """Sign in as before."""
        return self.through(self.browser(), persona, spatio=False)

    def new(self, persona: str) -> str:
        """Sign in with Spatio."""
        return self.through(self.browser(), persona, spatio=True)

    def command(self, *words: str) -> str:
        """Run a management command; give what it said, and why it ended if it did."""
        from django.core.management import CommandError, call_command

        out = StringIO()
        try:
            call_command(*words, stdout=out)
        except CommandError as error:
            out.write(str(error))
        return out.getvalue().replace(self.spatio.issuer, "ISSUER")

    def connections(self) -> dict[str, str]:
        """Tell whose account is whose, by persona."""
        from spatio_django.models import SpatioAccount

        names = {persona.sub: persona.key for persona in self.spatio.personas}
        rows = SpatioAccount.objects.order_by("pk").values_list("sub", "user__username")
        return {names.get(sub, sub): username for sub, username in rows}

    def walk(self) -> None:
        """Do what the page says, with a sign-in before and after each step of it."""
        migrate, register, rehearse, apply = commands()
        self.command(*migrate, "--verbosity=0")
        self.command(*migrate, "--verbosity=0", "--run-syncdb")  # what a page adds has no migrations here
        self.command(*register)
        before = {persona: self.old(persona) for persona in ("ada", "zoe")}
        self.prepare()
        self.report["rehearsed"] = self.command(*rehearse)
        self.report["untouched"] = self.connections() == {}
        self.report["applied"] = self.command(*apply)
        self.report["again"] = self.command(*apply)
        self.report["adopted"] = self.connections()
        self.report["same"] = {persona: self.new(persona) for persona in before} == before
        self.report["both"] = {persona: self.old(persona) for persona in before} == before
        self.report["newcomer"] = [self.new("bo")]
        if self.page != "from-mozilla-django-oidc.md":
            exec(code("python manage.py shell"), {})  # noqa: S102 - the page's own lines
        self.report["newcomer"].append(self.old("bo"))
        self.afterwards()

    def prepare(self) -> None:
        """Put rows beside those of the sign-ins that must not be taken."""

    def afterwards(self) -> None:
        """Look at what else the page says."""


def user(name: str, **values: Any) -> Any:
    """Make a user who was here before."""
    from django.contrib.auth import get_user_model

    return get_user_model()._default_manager.create(username=name, **values)


def ignore_letter_case(model: Any, name: str) -> None:
    """Have SQLite compare a column the way MariaDB does by default."""
    from django.db import connection

    if connection.vendor != "sqlite":
        return
    exact = model._meta.get_field(name)
    alike = copy(exact)
    alike.db_collation = "NOCASE"
    with connection.schema_editor() as editor:
        editor.alter_field(model, exact, alike)


class FromAllauth(Walk):
    """Rows of allauth's, kept by another provider, another claim, another version."""

    def prepare(self) -> None:
        """Make rows through allauth's own models."""
        from allauth.socialaccount.models import SocialAccount, SocialApp

        subs = {persona.key: persona.sub for persona in self.spatio.personas}
        other = {"iss": "https://other.example"}
        rows: dict[str, tuple[str, str, Any]] = {
            "boss": ("spatio", subs["cleo"], {"sub": subs["cleo"]}),  # before 65.11: userinfo alone
            "stranger": ("corp", subs["dee"], {}),
            "former": ("spatio", "acc_f", {"id_token": {**other, "sub": "acc_f"}}),
            "named": ("spatio", "ada", {"userinfo": {"sub": subs["ada"]}}),
            "opaque": ("spatio", "", "no object"),
            "shouting": ("SPATIO", "acc_loud", {}),
            "texted": ("spatio", "acc_t", json.dumps({"userinfo": {"sub": "other"}})),
            "padded": ("spatio", "acc_p ", {}),
        }
        ignore_letter_case(SocialAccount, "provider")
        for name, (provider, uid, data) in rows.items():
            owner = user(name, is_superuser=name == "boss", is_staff=name == "boss")
            SocialAccount.objects.create(user=owner, provider=provider, uid=uid, extra_data=data)
        corp = {"server_url": "https://corp.example"}
        SocialApp.objects.create(provider="openid_connect", provider_id="corp", settings=corp)

    def afterwards(self) -> None:
        """Ask for providers that can't be taken, or can't be told apart."""
        from allauth.socialaccount.models import SocialApp
        from django.test import override_settings

        corp = {"server_url": "https://corp.example"}
        adopt = ("spatio_adopt", "--from", "allauth")
        self.report["by itself"] = self.command(*adopt)
        self.report["elsewhere"] = self.command(*adopt, "--provider", "corp")
        with override_settings(AUTH_USER_MODEL="auth.Group"):
            self.report["other users"] = self.command(*adopt)
        app = SocialApp.objects.create(
            provider="openid_connect",
            provider_id="second",
            settings={"server_url": f"{self.spatio.issuer}/.well-known/openid-configuration"},
        )
        self.report["two"] = self.command(*adopt)
        self.report["second"] = self.command(*adopt, "--provider", "second")
        shadow = SocialApp.objects.create(provider="openid_connect", provider_id="spatio", settings=corp)
        self.report["shadowed"] = self.command(*adopt, "--provider", "spatio")
        shadow.delete()
        app.settings["uid_field"] = "email"
        app.save()
        self.report["by e-mail"] = self.command(*adopt, "--provider", "second")
        SocialApp.objects.update(provider="google")
        self.report["not ours"] = self.command(*adopt, "--provider", "second")


class FromSocialAuth(Walk):
    """Rows of social-auth's, kept by another provider, another claim, another version."""

    def prepare(self) -> None:
        """Make rows through social-auth's own models."""
        from social_django.models import UserSocialAuth

        subs = {persona.key: persona.sub for persona in self.spatio.personas}
        issuer = self.spatio.issuer
        ours = self.spatio.sign({"iss": issuer, "sub": subs["cleo"]})
        theirs = self.spatio.sign({"iss": "https://other.example", "sub": "acc_f"})
        rows: dict[str, tuple[str, str, str, Any]] = {
            "boss": ("oidc", subs["cleo"], "", {"id_token": ours, "id": subs["cleo"]}),
            "stranger": ("corp", subs["dee"], "sub", {}),
            "former": ("oidc", "acc_f", "sub", {"id_token": theirs}),
            "refreshed": ("oidc", "x", "sub", {"_oidc_id_token_context": {"iss": "https://other.example"}}),
            "named": ("oidc", "ada", "preferred_username", {}),
            "unsaid": ("oidc", "cleo@example.com", "", {"id": subs["cleo"], "id_token": "a.b!.c"}),
            "opaque": ("oidc", "äcc", "sub", "no object"),
            "texted": ("oidc", "acc_t", "sub", json.dumps({"id_token": theirs})),
        }
        for name, (provider, uid, id_key, data) in rows.items():
            owner = user(name, is_superuser=name == "boss", is_staff=name == "boss")
            UserSocialAuth.objects.create(
                user=owner, provider=provider, uid=uid, id_key=id_key, extra_data=data
            )

    def afterwards(self) -> None:
        """Ask for backends that can't be taken."""
        from django.test import override_settings

        adopt = ("spatio_adopt", "--from", "social-auth")
        self.report["by itself"] = self.command(*adopt)
        self.report["unknown"] = self.command(*adopt, "--provider", "corp")
        changes: dict[str, dict[str, Any]] = {
            "elsewhere": {"SOCIAL_AUTH_OIDC_OIDC_ENDPOINT": "https://corp.example"},
            "nowhere": {"SOCIAL_AUTH_OIDC_OIDC_ENDPOINT": None},
            "by e-mail": {"SOCIAL_AUTH_OIDC_ID_KEY": "email"},
            "pinned": {"SOCIAL_AUTH_OIDC_ID_TOKEN_ISSUER": self.spatio.issuer},
            "pinned elsewhere": {"SOCIAL_AUTH_OIDC_ID_TOKEN_ISSUER": "https://corp.example"},
        }
        for name, change in changes.items():
            with override_settings(**change):
                self.report[name] = self.command(*adopt)


class FromMozilla(Walk):
    """Users known by address, some of whom must not be remembered."""

    def prepare(self) -> None:
        """Sign in somebody whose address nobody verified, and staff."""
        self.old("cleo")
        user("boss", email="dee@example.com", is_staff=True)
        self.report["boss"] = self.old("dee")

    def afterwards(self) -> None:
        """Connect who was left out, beside the old package; and see why SessionRefresh must go."""
        from django.conf import settings
        from django.test import override_settings

        browser = self.browser()
        self.through(browser, "dee", spatio=False)
        response = browser.post("/spatio/account/connect/")
        url = response.headers.get("Location") or response["Refresh"].removeprefix("0;url=")
        browser.get(self.spatio.sign_in(url, persona="dee").removeprefix(ORIGIN))
        self.report["connected"] = self.new("dee")

        browser = self.browser()
        self.through(browser, "dee", spatio=True)
        refresh = "mozilla_django_oidc.middleware.SessionRefresh"
        self.report["without refresh"] = browser.get("/state/").status_code
        with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, refresh]):
            browser.handler.load_middleware()
            self.report["with refresh"] = browser.get("/state/").status_code


WALKS = {
    "from-allauth.md": FromAllauth,
    "from-social-auth.md": FromSocialAuth,
    "from-mozilla-django-oidc.md": FromMozilla,
}


@contextmanager
def own_database() -> Iterator[None]:
    """Give the site a database of its own, empty until the page's first command migrates it."""
    from django.db import connection

    if connection.vendor == "sqlite":
        yield  # in memory
        return
    creation: Any = connection.creation
    before = connection.settings_dict["NAME"]
    name = creation._create_test_db(verbosity=0, autoclobber=True)
    connection.close()
    connection.settings_dict["NAME"] = name
    try:
        yield
    finally:
        creation.destroy_test_db(before, verbosity=0)


def main() -> None:
    """Walk."""
    from spatio_django.testing import FakeSpatio

    page = os.environ["SPATIO_TESTS_MOVING_PAGE"]
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.moving.settings"
    with FakeSpatio() as spatio:
        method = "client_secret_basic" if page == "from-social-auth.md" else "client_secret_post"
        client = spatio.register([ORIGIN + ENTRANCES[page][2]], token_endpoint_auth_method=method)
        os.environ["SPATIO_TESTS_MOVING_ISSUER"] = spatio.issuer
        os.environ["SPATIO_TESTS_MOVING_CLIENT_ID"] = client["client_id"]
        os.environ["SPATIO_TESTS_MOVING_CLIENT_SECRET"] = client["client_secret"]

        import django

        django.setup()
        from django.test.utils import setup_test_environment

        from spatio_django import provider

        setup_test_environment()
        walk = WALKS[page](page, spatio)
        with own_database():
            walk.walk()
        provider.close()
    json.dump(walk.report, sys.stdout)


if __name__ == "__main__":
    main()
