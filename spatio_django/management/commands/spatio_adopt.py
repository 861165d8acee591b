"""Connect users who signed in through another package to their Spatio accounts."""

from argparse import ArgumentParser
from collections import Counter
from contextlib import ExitStack
from typing import Any, TextIO

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from spatio_django import adoption, adoption_lists
from spatio_django.adoption import Outcome, Source, Verdict
from spatio_django.conf import conf
from spatio_django.exceptions import SpatioError

#: Characters of a name that are printed.
MOST = 60


class Command(BaseCommand):
    """Doorway to :func:`spatio_django.adoption.adopt`."""

    help = (
        "Connect existing users to their Spatio accounts by the identifier (sub) that another package "
        "stored. Only says what it would do, unless --apply is given. Never looks at e-mail addresses: whom "
        "no stored identifier leads to connects at spatio:account, or by SPATIO_LINK_VERIFIED_EMAIL."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--from",
            choices=["allauth", "social-auth", "field", "csv"],
            required=True,
            dest="source",
            help="Where the identifiers are.",
        )
        parser.add_argument("file", nargs="?", default="-", help="The file of --from csv; -, or none: stdin.")
        parser.add_argument("--provider", metavar="ID", help="The provider's id in allauth or social-auth.")
        parser.add_argument("--field", metavar="PATH", help="Where users have it, such as profile.oidc_sub.")
        parser.add_argument("--issuer", metavar="URL", help="For csv and field: who gave the identifiers.")
        parser.add_argument("--apply", action="store_true", help="Do it.")

    def handle(self, **options: Any) -> None:
        """Go through the list; say what is left out, and how many were not."""
        counts: Counter[Outcome] = Counter()
        apply = options["apply"]
        try:
            with ExitStack() as stack:
                source = self.read(options, stack)
                self.say(options, f"From {source.title}, as given by {conf.SPATIO_ISSUER}:")
                for verdict in adoption.adopt(source, apply=apply):
                    counts[verdict.outcome] += 1
                    if verdict.outcome.is_problem:
                        self.say(options, describe(verdict))
        except SpatioError as error:
            raise CommandError(f"{error} [{error.code}]") from error
        except DatabaseError as error:
            raise CommandError(
                f"The database refused a batch ({type(error).__name__}); what was connected before stays. "
                "It is safe to run again."
            ) from error

        left_out = sum(number for outcome, number in counts.items() if outcome.is_problem)
        new, known = counts[Outcome.NEW], counts[Outcome.KNOWN]
        verb = "Connected" if apply else "Would connect"
        self.say(options, f"{verb}: {new}. Connected already: {known}. Left out: {left_out}.")
        if not apply and new:
            self.say(options, "Nothing was changed. To do it, run the same with --apply.")
        elif new:
            self.say(options, "Now sign in with Spatio as one of them. It is safe to run this again.")
        if left_out:
            raise CommandError(f"{left_out} left out. What is connected is skipped when this runs again.")

    def read(self, options: dict[str, Any], stack: ExitStack) -> Source:
        """Give the list that the options name."""
        if options["source"] == "allauth":
            return adoption_lists.from_allauth(options["provider"])
        if options["source"] == "social-auth":
            return adoption_lists.from_social_auth(options["provider"])
        if options["source"] == "field":
            return adoption_lists.from_field(options["field"] or "", issuer=options["issuer"])
        return adoption_lists.from_csv(self.opened(options["file"], stack), issuer=options["issuer"])

    def opened(self, path: str, stack: ExitStack) -> TextIO:
        """Open the file, or standard input."""
        file = 0 if path == "-" else path
        try:
            # utf-8-sig: spreadsheets put a signature in front.
            return stack.enter_context(open(file, encoding="utf-8-sig", newline="", closefd=path != "-"))
        except OSError as error:
            raise CommandError(f"{path} can't be read: {error.strerror}.") from error

    def say(self, options: dict[str, Any], sentence: str) -> None:
        """Print one line, unless told to be quiet."""
        if options["verbosity"]:
            self.stdout.write(sentence)


def describe(verdict: Verdict) -> str:
    """
    Say in one line what is wrong with a row.

    Names come from strangers: ``repr`` leaves nothing in them that moves a terminal's cursor or turns text
    around.
    """
    name = f" ({verdict.username[:MOST]!r})" if verdict.username else ""
    row = verdict.row
    return f"{row.place}, user {row.user[:MOST]!r}{name}, sub {row.sub[:MOST]!r}: {verdict.outcome.value}."
