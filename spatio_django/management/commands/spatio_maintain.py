"""Revoke what could not be revoked yet, and clear away what is over. For cron, on every host."""

from argparse import ArgumentParser, ArgumentTypeError
from collections import defaultdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from spatio_django import maintenance
from spatio_django.maintenance import MOST_COUNTED, Summary

#: Rows between two lines that say how far it is.
TOLD_EVERY = 5_000


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10_000):
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 to 10000")
    return int(text)


class Command(BaseCommand):
    """Doorway to :func:`spatio_django.maintenance.maintain`."""

    help = (
        "Revoke the tokens of ended grants at Spatio where that failed before, end the grants of inactive "
        "users and those that nobody came back to, and drop what is over. Safe to run at any time, on every "
        "host at once."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--batch-size",
            type=positive,
            default=maintenance.BATCH_SIZE,
            metavar="ROWS",
            help="Rows per transaction. Default: %(default)s.",
        )
        parser.add_argument(
            "--unused-days",
            type=positive,
            metavar="DAYS",
            help="End grants that nobody came back to for so long. Default: SESSION_COOKIE_AGE and a week.",
        )

    def handle(self, **options: Any) -> None:
        """Do it, and say what was done. That Spatio is down is no failure of this command."""
        self.verbosity = options["verbosity"]
        self.told: defaultdict[str, int] = defaultdict(int)
        try:
            summary = maintenance.maintain(
                batch_size=options["batch_size"], unused_days=options["unused_days"], progress=self.progress
            )
        except DatabaseError as error:
            raise CommandError(
                f"The database refused a batch ({type(error).__name__}); what was done before stays. "
                "It is safe to run again."
            ) from error
        self.conclude(summary)

    def progress(self, what: str, done: int) -> None:
        """Say now and then how far it is; with more verbosity, after each batch."""
        if done - self.told[what] >= TOLD_EVERY or self.verbosity > 1:
            self.told[what] = done
            self.say(f"{done} {what} …")

    def conclude(self, summary: Summary) -> None:
        """Say what was done, and what is left."""
        self.say(
            f"Ended: {summary.deactivated} of inactive users, {summary.unused} unused. "
            f"Dropped: {summary.dropped} grants that were over, {summary.states} consumed states. "
            f"Revoked: {summary.revoked}."
        )
        left = f"more than {MOST_COUNTED}" if summary.left > MOST_COUNTED else str(summary.left)
        if summary.unreachable:
            self.say(f"Spatio does not answer. Left to be revoked: {left}. The next run goes on with them.")
        elif summary.left:
            self.say(f"Left to be revoked, and not due yet or refused: {left}. The log says why.")

    def say(self, sentence: str) -> None:
        """Print one line, unless told to be quiet."""
        if self.verbosity:
            self.stdout.write(sentence)
