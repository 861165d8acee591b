"""Everything in one command: the development provider, the database, the registration, the site."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.utils import autoreload

from spatio_django import registration

#: Seconds for the provider to answer; it needs one or two.
START_TIMEOUT = 30
#: Seconds that an access token lives: short, so that one sees it refreshed.
TOKEN_LIFETIME = 30


class Command(BaseCommand):
    """Run the example against a Spatio of its own."""

    help = "Run this site against the development provider: nothing to configure, no account needed."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--port", type=int, default=8000, help="of the site (default: %(default)s)")
        parser.add_argument(
            "--spatio-port", type=int, default=8765, help="of the development provider (default: %(default)s)"
        )

    def handle(self, *, port: int, spatio_port: int, **options: Any) -> None:
        """Start the provider and the site; end both together."""
        issuer = f"http://127.0.0.1:{spatio_port}"
        settings.SPATIO_ISSUER = os.environ["SPATIO_ISSUER"] = issuer
        if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
            # This is the process that each change of the code starts anew; its parent has done the rest.
            call_command("runserver", f"127.0.0.1:{port}")
            return

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        require_free(port, "--port")
        require_free(spatio_port, "--spatio-port")
        # Beside the database, which knows the client's secret: the two are of use together only.
        state = Path(connection.settings_dict["NAME"]).with_name(f".provider-{spatio_port}.json")
        known = state.exists()
        with running_provider(spatio_port, state):
            call_command("migrate", verbosity=0)
            register(f"http://localhost:{port}", anew=not known)
            self.stdout.write(
                self.style.SUCCESS(f"\n    Open  http://localhost:{port}/\n")
                + f"\n    Spatio is played by {issuer}/. Ctrl-C ends both.\n"
            )
            call_command("runserver", f"127.0.0.1:{port}")


def require_free(port: int, option: str) -> None:
    """
    Raise CommandError unless nothing listens on *port*.

    Here, because runserver would say so only after the rest, and in other words.
    """
    with socket.socket() as probe:
        if os.name == "posix":  # elsewhere the option lets two listen at once
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CommandError(
                f"Port {port} can't be used ({error.strerror}). Perhaps this runs already? "
                f"Otherwise choose another port with {option}."
            ) from error


@contextlib.contextmanager
def running_provider(port: int, state: Path) -> Iterator[None]:
    """Run the development provider in a process of its own until the block ends, however it ends."""
    command = [sys.executable, "-m", "spatio_django.testing", "--port", str(port), "--state", str(state)]
    command += ["--access-token-lifetime", str(TOKEN_LIFETIME)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # noqa: S603 - our own words
        try:
            wait_for(process, port)
            yield
        finally:
            process.terminate()


def wait_for(process: "subprocess.Popen[bytes]", port: int) -> None:
    """Return as soon as the provider accepts connections."""
    deadline = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise CommandError("The development provider did not start.")


def register(base_url: str, *, anew: bool) -> None:
    """Register, unless the provider and the database know each other already."""
    stored = registration.stored()
    moved = stored is not None and stored.redirect_uris != list(registration.redirect_uris([base_url]))
    call_command("spatio_register", base_urls=[base_url], client_name="Example site", force=anew or moved)
