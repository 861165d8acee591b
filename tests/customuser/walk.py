"""Sign in as each persona, twice, and print as JSON how it went. Run as a program, once per user model."""

import json
import os
import sys
from dataclasses import replace
from typing import Any


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
    results: dict[str, Any] = {}
    with FakeSpatio(personas=[*PERSONAS, nobody, taken]) as spatio:
        settings.SPATIO_ISSUER = spatio.issuer
        call_command("spatio_register", "--base-url", "http://testserver", verbosity=0)
        for persona in [*spatio.personas, PERSONAS[0]]:
            spatio.forget_browsers()
            browser = Client(headers={"Sec-Fetch-Mode": "navigate"})
            url = browser.get("/spatio/login/")["Location"]
            answer = browser.get(spatio.sign_in(url, persona=persona.key).removeprefix("http://testserver"))
            results[persona.key] = (
                "in" if answer.status_code == 302 else f"{answer.status_code} {answer.context['code']}"
            )
        provider.close()
    users = [user.get_username() for user in get_user_model()._default_manager.order_by("pk")]
    json.dump({"results": results, "users": users}, sys.stdout)


if __name__ == "__main__":
    main()
