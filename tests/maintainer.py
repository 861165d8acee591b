"""
Maintain a database from a process of its own, as cron does on each host.

Takes the database's name, the issuer and the options as JSON on standard input; prints the summary as JSON.
"""

import json
import os
import sys
from dataclasses import asdict


def main() -> None:
    """Wait until told, then maintain."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    import django

    django.setup()
    from django.conf import settings
    from django.db import connection

    from spatio_django import maintenance

    order = json.loads(sys.stdin.readline())
    connection.settings_dict["NAME"] = order["database"]
    settings.SPATIO_ISSUER = order["issuer"]
    connection.ensure_connection()
    print("ready", flush=True)  # noqa: T201 - to the test
    sys.stdin.readline()
    json.dump(asdict(maintenance.maintain(**order["options"])), sys.stdout)


if __name__ == "__main__":
    main()
