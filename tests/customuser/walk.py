"""
Sign in as each persona, twice, and print as JSON how it went. Run as a program, once per user model.

Somebody with a password connects, disconnects, and is adopted, too.
"""

import json
import os
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ORIGIN = "http://testserver"


def bring_along(spatio: Any, persona: str) -> dict[str, Any]:
    """Let somebody who has a password connect, disconnect, and be adopted under their primary key."""
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client

    from spatio_django import tokens
    from spatio_django.models import SpatioAccount

    model = get_user_model()
    name = "grace@example.org" if model.USERNAME_FIELD == "email" else "grace"
    grace = model(**{model.USERNAME_FIELD: name})
    grace.set_password("correct horse")
    grace.save()
    browser = Client(headers={"Sec-Fetch-Mode": "navigate"})
    browser.force_login(grace, backend="django.contrib.auth.backends.ModelBackend")
    mine = SpatioAccount.objects.filter(user=grace)

    spatio.forget_browsers()
    url = browser.post("/spatio/account/connect/")["Refresh"].removeprefix("0;url=")
    browser.get(spatio.sign_in(url, persona=persona).removeprefix(ORIGIN))
    page = browser.get("/spatio/account/").content.decode()
    done: dict[str, Any] = {"connected": mine.count(), "shown": "Disconnect" in page}
    done["used"] = tokens.for_user(grace).access_token != ""
    browser.post("/spatio/account/disconnect/", {"account": mine.get().pk})
    done["disconnected"] = not mine.exists()
    key, out = str(grace.pk), StringIO()
    with TemporaryDirectory() as folder:
        path = Path(folder, "list.csv")
        path.write_text(f"pk,sub\n{key.upper() if model.__name__ == 'UuidUser' else key},acc_adopted\n")
        call_command(
            "spatio_adopt", "--from", "csv", str(path), "--issuer", spatio.issuer, "--apply", stdout=out
        )
    done["adopted"] = mine.get().sub
    return done


def main() -> None:
    """Walk."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.customuser.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.test import Client
    from django.test.utils import setup_test_environment

    from spatio_django import provider
    from spatio_django.testing import PERSONAS, FakeSpatio

    setup_test_environment()
    call_command("migrate", verbosity=0, run_syncdb=True)
    nobody = replace(PERSONAS[0], key="nomail", sub="acc_nomail", email=None, email_verified=None)
    taken = replace(PERSONAS[0], key="taken", sub="acc_taken", email="Taken@example.com")
    if get_user_model().__name__ == "EmailUser":
        get_user_model()._default_manager.create(email="taken@example.com")
    connects = replace(PERSONAS[0], key="connects", sub="acc_connects", email="connects@example.com")
    results: dict[str, Any] = {}
    with FakeSpatio(personas=[*PERSONAS, nobody, taken, connects]) as spatio:
        settings.SPATIO_ISSUER = spatio.issuer
        call_command("spatio_register", "--base-url", "http://testserver", verbosity=0)
        for persona in [*PERSONAS, nobody, taken, PERSONAS[0]]:
            spatio.forget_browsers()
            browser = Client(headers={"Sec-Fetch-Mode": "navigate"})
            url = browser.get("/spatio/login/")["Location"]
            answer = browser.get(spatio.sign_in(url, persona=persona.key).removeprefix("http://testserver"))
            results[persona.key] = (
                "in" if answer.status_code == 302 else f"{answer.status_code} {answer.context['code']}"
            )
        users = [user.get_username() for user in get_user_model()._default_manager.order_by("pk")]
        brought = bring_along(spatio, connects.key)
        provider.close()
    json.dump({"results": results, "users": users, "brought": brought}, sys.stdout)


if __name__ == "__main__":
    main()
