"""``python -m spatio_django.testing``: the development provider as a process of its own."""

import argparse
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from spatio_django.testing.fake import FakeSpatio


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m spatio_django.testing", description="Spatio, offline.")
    parser.add_argument("--host", default="127.0.0.1", help="a loopback address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8765, help="default: %(default)s")
    parser.add_argument("--state", type=Path, metavar="FILE", help="keep clients and sign-ins in FILE")
    parser.add_argument("--access-token-lifetime", type=int, default=3600, metavar="SECONDS")
    options = parser.parse_args(arguments)
    try:
        spatio = FakeSpatio(
            host=options.host,
            port=options.port,
            state_file=options.state,
            access_token_lifetime=options.access_token_lifetime,
        )
        spatio.start()
    except (ImportError, OSError, ValueError) as error:
        print(f"The development provider can't start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    # Only now, so that a failure to start is one line.
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", level=logging.INFO)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    print("Spatio's development provider: no real accounts. In your settings:\n", flush=True)  # noqa: T201
    print(f'    SPATIO_ISSUER = "{spatio.issuer}"\n', flush=True)  # noqa: T201
    print("Stop it with Ctrl-C.", flush=True)  # noqa: T201
    while not stopped.wait(timeout=0.2):  # without a timeout, Windows would not hear Ctrl-C
        continue
    spatio.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
