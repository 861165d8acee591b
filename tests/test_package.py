"""The metadata agree with the code and with each other."""

import ast
import json
import re
import sys
import tomllib
from collections.abc import Iterable
from configparser import ConfigParser
from pathlib import Path

import pytest

import spatio_django
from tests.strictness import REQUIRE_ALL, refuse_skip

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pairs_of_tox() -> set[tuple[str, str]]:
    """Give the pairs of Python and Django that tox runs."""
    tox = ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    pairs = set()
    for line in tox["tox"]["env_list"].split():
        if found := re.fullmatch(r"py3(?:\{([\d,]+)\}|(\d+))-django(?:\{([\d,]+)\}|(\d+))", line):
            pythons, djangos = found[1] or found[2], found[3] or found[4]
            pairs |= {
                (f"3.{python}", f"{django[0]}.{django[1]}")
                for python in pythons.split(",")
                for django in djangos.split(",")
            }
    return pairs


def promised(prefix: str) -> set[str]:
    """Give the versions that the classifiers promise."""
    found = (re.fullmatch(rf"{prefix} :: (\d+\.\d+)", line) for line in PROJECT["classifiers"])
    return {match[1] for match in found if match}


def test_every_promised_version_is_tested_and_every_tested_one_is_promised() -> None:
    """The classifiers and tox's environments name the same versions of Python and Django."""
    assert promised("Programming Language :: Python") == {python for python, _ in pairs_of_tox()}
    assert promised("Framework :: Django") == {django for _, django in pairs_of_tox()}


def test_the_oldest_python_is_the_required_one() -> None:
    """Nobody installs this where it was never tested."""
    oldest = min(promised("Programming Language :: Python"), key=lambda text: int(text.split(".")[1]))

    assert PROJECT["requires-python"] == f">={oldest}"


def declared(lines: Iterable[str]) -> set[str]:
    """Give the distributions that requirement lines name."""
    return {re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in lines}


def imported(paths: Iterable[Path]) -> set[str]:
    """Give the distributions whose modules those files import, beyond Python's and our own."""
    nodes = [node for path in paths for node in ast.walk(ast.parse(path.read_text()))]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
    tops = {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - TYPING_ONLY
    return {DISTRIBUTIONS.get(top, top) for top in tops - {"spatio_django"}}


#: Distributions that are not called like their module.
DISTRIBUTIONS = {"mozilla_django_oidc": "mozilla-django-oidc", "rest_framework": "djangorestframework"}
#: Imported for type checkers only, or when a site that has it asks for it.
TYPING_ONLY = {"_typeshed", "spatio"}


def test_what_the_package_imports_is_declared() -> None:
    """A direct import deserves a direct dependency: nothing arrives only because something else brings it."""
    package = Path(spatio_django.__file__).parent
    own = declared(PROJECT["dependencies"]) | {"asgiref"}  # Django's own, and as old as async Django
    files = [path for path in package.rglob("*.py") if package / "testing" not in path.parents]

    assert imported(files) <= own


def test_what_the_development_provider_imports_is_in_its_extra() -> None:
    """It needs its extra, pytest for the fixture, and nothing of the site's dependencies."""
    extra = declared(PROJECT["optional-dependencies"]["testing"])
    files = (Path(spatio_django.__file__).parent / "testing").rglob("*.py")

    assert imported(files) <= extra | {"pytest"}


def test_the_lock_file_of_npm_names_no_registry() -> None:
    """It says what is installed, to the byte; from where is the business of the machine that installs it."""
    lock = json.loads((ROOT / "tests" / "providers" / "oidc_provider" / "package-lock.json").read_text())
    packages = {path: package for path, package in lock["packages"].items() if path}

    assert "node_modules/oidc-provider" in packages
    assert all("integrity" in package and "resolved" not in package for package in packages.values())


def test_types_are_shipped() -> None:
    """Type checkers of a site see this package's annotations."""
    assert (Path(spatio_django.__file__).parent / "py.typed").is_file()


@pytest.mark.parametrize(("everything", "outcome"), [("", "skipped"), ("1", "failed")])
def test_a_skip_is_a_failure_where_everything_must_run(
    everything: str, outcome: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Continuous integration never passes by skipping; a developer without Chromium isn't held up."""
    monkeypatch.setenv(REQUIRE_ALL, everything)
    report = pytest.TestReport(
        nodeid="tests/test_browser.py::test_x",
        location=("tests/test_browser.py", 1, "test_x"),
        keywords={},
        outcome="skipped",
        longrepr=("tests/test_browser.py", 1, "Skipped: There is no Chromium."),
        when="call",
    )

    assert refuse_skip(report).outcome == outcome
    assert "There is no Chromium." in str(report.longrepr)
