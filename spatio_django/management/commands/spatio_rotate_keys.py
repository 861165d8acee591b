"""Encrypt with the first key what is encrypted with another one."""

from argparse import ArgumentParser
from collections import defaultdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, models

from spatio_django import rotation
from spatio_django.management.commands.spatio_maintain import TOLD_EVERY, positive


class Command(BaseCommand):
    """Doorway to :func:`spatio_django.rotation.rotate`."""

    help = (
        "Encrypt all tokens and client secrets with the first of SPATIO_ENCRYPTION_KEYS (or with SECRET_KEY, "
        "if there are none), so that the keys behind it can go. Safe to run while people sign in, and to run "
        "again."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument(
            "--batch-size",
            type=positive,
            default=rotation.BATCH_SIZE,
            metavar="ROWS",
            help="Rows read at once. Default: %(default)s.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only count.")

    def handle(self, **options: Any) -> None:
        """Do it, and say how much there was."""
        self.verbosity = options["verbosity"]
        self.told: defaultdict[type[models.Model], int] = defaultdict(int)
        try:
            counts = rotation.rotate(
                batch_size=options["batch_size"], dry_run=options["dry_run"], progress=self.progress
            )
        except DatabaseError as error:
            raise CommandError(
                f"The database refused ({type(error).__name__}); what was encrypted anew stays so. "
                "It is safe to run again."
            ) from error
        verb = "to be encrypted anew" if options["dry_run"] else "encrypted anew"
        for model, count in counts.items():
            self.say(
                f"{name_of(model)}: {count.renewed} {verb}, {count.current} with the first key already, "
                f"{count.unreadable} unreadable."
            )
        self.judge(counts)
        if options["dry_run"]:
            self.say("Nothing was changed. To do it, run the same without --dry-run.")
        else:
            self.say("The other keys are not needed any more for what is in the database.")

    def judge(self, counts: dict[type[models.Model], rotation.Count]) -> None:
        """
        Fail if something could not be encrypted anew.

        Raises:
            CommandError: Which says what to do.
        """
        unreadable = sum(count.unreadable for count in counts.values())
        busy = sum(count.busy for count in counts.values())
        problems = []
        if unreadable:
            problems.append(
                f"{unreadable} can't be decrypted with any key in the settings, and were left alone. Put the "
                "key back, behind the others in SPATIO_ENCRYPTION_KEYS (or SECRET_KEY_FALLBACKS), and run "
                "this again. If it is lost, these people have to sign in again, and a client secret needs "
                "spatio_register --force. Keep the other keys until then."
            )
        if busy:
            problems.append(f"{busy} rows were changed by somebody else each time. Run this again.")
        if problems:
            raise CommandError("\n".join(problems))

    def progress(self, model: type[models.Model], done: int) -> None:
        """Say now and then how far it is; with more verbosity, after each batch."""
        if done - self.told[model] >= TOLD_EVERY or self.verbosity > 1:
            self.told[model] = done
            self.say(f"{name_of(model)}: {done} rows …")

    def say(self, sentence: str) -> None:
        """Print one line, unless told to be quiet."""
        if self.verbosity:
            self.stdout.write(sentence)


def name_of(model: type[models.Model]) -> str:
    """Name a model as operators know it."""
    return str(model._meta.verbose_name_plural)
