"""Another process of the site: refreshes one grant when it is told to, and says how that went."""

import json
import os
import sys

import django
from django.conf import settings


def say(what: object) -> None:
    """Tell the test."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main() -> None:
    """Read who and where from the environment, get ready, wait for a line, refresh."""
    told = json.loads(os.environ["SPATIO_TESTS_PROCESS"])
    settings.DATABASES["default"]["NAME"] = told["database"]
    settings.SPATIO_ISSUER = told["issuer"]
    django.setup()
    from spatio_django.models import SpatioToken
    from spatio_django.refreshing import Need, fresh

    grant = SpatioToken.objects.with_clock().select_related("account__user").get(pk=told["grant"])
    say("ready")
    sys.stdin.readline()
    say(fresh(grant, Need()).generation)


main()
