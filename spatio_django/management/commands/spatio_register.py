"""Register this site at Spatio, once."""

from argparse import ArgumentParser
from typing import Any
from urllib.parse import urlsplit

from django.core.management.base import BaseCommand, CommandError

from spatio_django import registration
from spatio_django.conf import conf
from spatio_django.exceptions import SpatioError


class Command(BaseCommand):
    """Doorway to :func:`spatio_django.registration.register`."""

    # Not those that say that this site is not registered, or not rightly: that is about to change.
    requires_system_checks = ["spatio_settings"]
    help = "Register this site at Spatio (dynamic client registration) and store the client, encrypted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--base-url",
            action="append",
            dest="base_urls",
            metavar="URL",
            help="Where people reach this site, such as https://example.com. May be given again.",
        )
        parser.add_argument("--client-name", help="What people read on the consent page. Default: the host.")
        parser.add_argument(
            "--force", action="store_true", help="Make a new registration although one is stored."
        )

    def handle(self, **options: Any) -> None:
        """Register, unless it was done."""
        base_urls = options["base_urls"] or ([conf.SPATIO_BASE_URL] if conf.SPATIO_BASE_URL else [])
        try:
            uris = registration.redirect_uris(base_urls)
            row = registration.stored()
            if row is not None and not options["force"]:
                if set(row.redirect_uris) != set(uris):
                    raise CommandError(
                        "Another registration is stored, for "
                        f"{', '.join(row.redirect_uris)}. Make a new one with --force."
                    )
                self.say(options, f"Already registered as {row.client_id}; nothing to do.")
                return
            name = options["client_name"] or str(urlsplit(uris[0]).hostname)
            row = registration.register(uris, client_name=name)
        except SpatioError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        self.say(options, f"Registered as {row.client_id} for {', '.join(row.redirect_uris)}.")

    def say(self, options: dict[str, Any], sentence: str) -> None:
        """Print one line, unless told to be quiet."""
        if options["verbosity"]:
            self.stdout.write(sentence)
