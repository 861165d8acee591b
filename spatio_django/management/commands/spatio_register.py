"""Register this site at Spatio, once; look whether the registration fits; change it when told to."""

import json
import math
import time
from argparse import ArgumentParser, BooleanOptionalAction
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from spatio_django import fit, registrar, registration
from spatio_django.conf import conf
from spatio_django.exceptions import ProviderRefused, ProviderUnavailable, SpatioError
from spatio_django.models import SpatioClient
from spatio_django.oidc.registration import URI_MEMBERS, ClientMetadata


class Command(BaseCommand):
    """Doorway to :mod:`spatio_django.registrar`."""

    # Not those that say that this site is not registered, or not rightly: that is about to change.
    requires_system_checks = ["spatio_settings"]
    help = "Register this site at Spatio (dynamic client registration) and keep the client, encrypted."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--base-url",
            action="append",
            dest="base_urls",
            metavar="URL",
            help="Where people reach this site, such as https://example.com. Up to ten of them.",
        )
        parser.add_argument("--client-name", help="What people read on the consent page. Default: the host.")
        parser.add_argument("--scope", help="Scopes, separated by spaces. Default: SPATIO_SCOPES.")
        parser.add_argument(
            "--public",
            action=BooleanOptionalAction,
            help="Be a client without a secret. Default: with one, as befits a server.",
        )
        for member, what in zip(URI_MEMBERS, ("Home page", "Logo", "Privacy policy", "Terms"), strict=True):
            parser.add_argument(
                f"--{member.replace('_', '-')}", metavar="URL", help=f"{what}, for the consent page."
            )
        parser.add_argument(
            "--env-file",
            type=Path,
            metavar="PATH",
            help="Keep the client there as environment variables, mode 0600, instead of in the database.",
        )
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--update", action="store_true", help="Ask Spatio to change the registration there is."
        )
        how.add_argument(
            "--force", action="store_true", help="Make a new registration although there is one."
        )
        look = parser.add_mutually_exclusive_group()
        look.add_argument(
            "--check",
            action="store_true",
            help="Only look whether the registration fits; exit status 1 if not.",
        )
        look.add_argument("--dry-run", action="store_true", help="Only print what would be asked for.")

    def handle(self, **options: Any) -> None:
        """Register, unless it was done."""
        self.verbosity = options["verbosity"]
        try:
            self.attend(options)
        except SpatioError as error:
            raise CommandError(told(error)) from error
        except KeyboardInterrupt:
            raise CommandError("Interrupted. Run it again: what was kept, it knows.") from None

    def attend(self, options: dict[str, Any]) -> None:
        """Do what the options say."""
        keeper: registrar.Keeper = (
            registrar.Environment(options["env_file"]) if options["env_file"] else registrar.Database()
        )
        wish = registrar.Wish(
            base_urls=tuple(options["base_urls"] or ()),
            client_name=options["client_name"],
            scope=options["scope"],
            public=options["public"],
            uris={member: options[member] for member in URI_MEMBERS},
        )
        named = registration.from_settings()
        # The settings win; of their client the file knows more, and the database needn't be there.
        known = keeper.known() if named is None or options["env_file"] else named
        if named is not None and (known is None or known.client_id != named.client_id):
            known = named
        if options["check"]:
            self.check_fit(known, wish)
            return
        request = registrar.wanted(wish, known)
        if options["dry_run"]:
            self.stdout.write(json.dumps(request.to_document(), indent=2))
        elif options["update"]:
            self.update(known, request, keeper)
        elif known is None or options["force"]:
            chosen = known or wish.public is not None or conf.chosen_auth_method()
            row, surprises = registrar.register(request, keeper, any_method=not chosen)
            self.say(f"Registered as {row.client_id} for {', '.join(row.redirect_uris)}.")
            self.conclude(row, keeper, surprises)
        else:
            self.leave(known, request)

    def check_fit(self, known: SpatioClient | None, wish: registrar.Wish) -> None:
        """Say whether the registration fits."""
        if known is None:
            raise CommandError("This site is not registered at Spatio. [not_registered]")
        found = [f"{misfit.message} {misfit.hint}" for misfit in fit.misfits(known, now=time.time())]
        found = found or registrar.differences(known, registrar.wanted(wish, known))
        if found:
            raise CommandError(
                "\n".join([f"The registration {known.client_id} does not fit this site:", *found])
            )
        self.say(f"The registration {known.client_id} fits this site.")

    def leave(self, known: SpatioClient, request: ClientMetadata) -> None:
        """Say that there is a registration, and how it differs from what is wanted now."""
        if lost := [misfit for misfit in fit.misfits(known, now=time.time()) if misfit.lost]:
            raise CommandError(f"Registered as {known.client_id}. {lost[0].message} {lost[0].hint}")
        if found := registrar.differences(known, request):
            ways = "--force makes a new registration"
            if known.registration_client_uri:
                ways = f"--update asks Spatio to change this one, {ways}"
            raise CommandError(
                "\n".join(
                    [f"Registered as {known.client_id}, but otherwise:", *found, f"Nothing was done: {ways}."]
                )
            )
        self.say(f"Already registered as {known.client_id}; nothing to do.")
        self.warn_of_misfits(known)

    def update(self, known: SpatioClient | None, request: ClientMetadata, keeper: registrar.Keeper) -> None:
        """Change the registration there is."""
        if known is None:
            raise CommandError("This site is not registered at Spatio: there is nothing to --update.")
        if not registrar.differences(known, request):
            self.leave(known, request)
            return
        row, surprises = registrar.update(known, request, keeper)
        self.say(f"Changed {row.client_id}, which is for {', '.join(row.redirect_uris)}.")
        self.conclude(row, keeper, surprises)

    def conclude(self, row: SpatioClient, keeper: registrar.Keeper, surprises: list[str]) -> None:
        """Say what is left to do, and what an operator has to know."""
        named = registration.from_settings()
        if named is not None and named.client_id != row.client_id:
            self.warn(f"SPATIO_CLIENT_ID is still {named.client_id}, and the settings win: change them.")
        elif named is None and isinstance(keeper, registrar.Environment):
            self.say("Load that file into the environment, and let your settings read it:")
            self.say("\n".join(f'{name} = os.environ.get("{name}")' for name in keeper.variables(row)))
        for surprise in surprises:
            self.warn(surprise)
        self.warn_of_misfits(row)

    def warn_of_misfits(self, row: SpatioClient) -> None:
        """Tell in time what will go wrong."""
        for misfit in fit.misfits(row, now=time.time()):
            self.warn(f"{misfit.message} {misfit.hint}")

    def say(self, sentence: str) -> None:
        """Print one line, unless told to be quiet."""
        if self.verbosity:
            self.stdout.write(sentence)

    def warn(self, sentence: str) -> None:
        """Print one line where errors go, quiet or not."""
        self.stderr.write(self.style.WARNING(sentence))


def told(error: SpatioError) -> str:
    """Tell an operator what happened and when to try again, with the code that the documentation explains."""
    text = str(error)
    if isinstance(error, ProviderRefused) and (description := error.context.get("description")):
        text += f" It says: {description}"
    if isinstance(error, ProviderUnavailable):
        if "endpoint" in error.context:
            text = f"{text.rstrip('.')}: {error.context['endpoint']}."
        minutes = math.ceil((error.retry_after or 0) / 60)
        unit = "minute" if minutes == 1 else "minutes"
        text += f" Try again in {minutes} {unit}." if minutes else " Try again later."
    return f"{text} [{error.code}]"
