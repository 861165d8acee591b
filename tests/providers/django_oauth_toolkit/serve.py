"""
django-oauth-toolkit (PyPI) as an OpenID provider: ``python -m tests.providers.django_oauth_toolkit.serve``.

Prints ``ISSUER http://127.0.0.1:…/o`` when it serves, and ends when its standard input does, so that it never
outlives the tests.
"""

import os
import sys
import threading
from typing import Any


def main() -> None:
    """Make the database, then serve."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.providers.django_oauth_toolkit.settings"
    import django

    django.setup()
    from django.contrib.auth import get_user_model
    from django.core.management import call_command
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler
    from django.core.wsgi import get_wsgi_application
    from django.db.models.signals import pre_save
    from oauth2_provider.models import get_application_model

    call_command("migrate", verbosity=0)
    pre_save.connect(sign_id_tokens, sender=get_application_model())
    get_user_model().objects.create_user(
        "ada", email="ada@example.com", password="correct horse", first_name="Ada", last_name="Lovelace"
    )
    server = ThreadedWSGIServer(("127.0.0.1", 0), WSGIRequestHandler, ipv6=False)
    server.set_app(get_wsgi_application())
    threading.Thread(target=end_with_input, args=[server], daemon=True).start()
    sys.stdout.write(f"ISSUER http://127.0.0.1:{server.server_port}/o\n")
    sys.stdout.flush()
    server.serve_forever()


def sign_id_tokens(instance: Any, **kwargs: Any) -> None:
    """
    Let a client that registered itself have ID tokens.

    Version 3.4 gives such a client no signing algorithm, and answers its token request with a 500.
    """
    if not instance.algorithm:
        instance.algorithm = instance.RS256_ALGORITHM


def end_with_input(server: Any) -> None:
    """Stop serving when nobody holds the other end any more."""
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
