"""What a page of docs/moving/ tells its reader to do, so that the tests do just that."""

import os
import re
import shlex
from pathlib import Path
from textwrap import dedent

FOLDER = Path(__file__).parent.parent.parent / "docs" / "moving"


def blocks(page: str, language: str) -> list[str]:
    """Give the code of that language on *page*, blocks inside of lists included."""
    fenced = re.compile(rf"^( *)```{language}\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
    found = fenced.findall((FOLDER / page).read_text())
    return [dedent(code) for _, code in found]


def code(name: str, page: str = "") -> str:
    """Give the Python of the walk's page that begins with the comment *name*, for this site."""
    page = page or os.environ["SPATIO_TESTS_MOVING_PAGE"]
    (found,) = (code for code in blocks(page, "python") if code.startswith(f"# {name}"))
    return found.replace("mysite.", "tests.moving.").replace("https://api.spatio.app", issuer())


def commands(page: str = "") -> list[list[str]]:
    """Give the management commands of the walk's page, in order, for this site."""
    page = page or os.environ["SPATIO_TESTS_MOVING_PAGE"]
    lines = "".join(blocks(page, "console")).splitlines()
    swaps = {"https://example.com": "http://testserver", "https://api.spatio.app": issuer()}
    return [[swaps.get(word, word) for word in shlex.split(line)[2:]] for line in lines]


def issuer() -> str:
    """Give the provider's address."""
    return os.environ["SPATIO_TESTS_MOVING_ISSUER"]
