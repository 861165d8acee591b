"""The paperwork says what the code does: settings, error codes, quickstart, commands."""

import ast
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

import spatio_django
from spatio_django import explanations
from spatio_django.conf import NAMES
from spatio_django.oidc.refusal import KNOWN_ERRORS
from spatio_django.revocation import REASONS
from spatio_django.testing import FakeSpatio

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = {path.name: path.read_text() for path in (ROOT / "docs").glob("*.md")}
PAPERS = {"README.md": README} | PAGES


def blocks(text: str, language: str) -> list[str]:
    """Give the fenced code blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def section(text: str, heading: str) -> str:
    """Give what stands under one heading of the second level."""
    (found,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return str(found)


def first_column(text: str) -> set[str]:
    """Give the names in code font in the first column of every table."""
    cells = re.findall(r"^\| ([^|]*`[^|]*) \|", text, re.MULTILINE)
    return {name for cell in cells for name in re.findall(r"`([A-Za-z_0-9]+)`", cell)}


PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in PAPERS.items()
    for number, block in enumerate(blocks(text, "python"), 1)
]


# Settings


def test_every_setting_is_in_the_reference_and_nothing_else_is() -> None:
    """The table of settings is complete, and names no setting that does nothing."""
    rows = {name for name in first_column(PAGES["settings.md"]) if name.startswith("SPATIO_")}

    assert rows == NAMES


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_no_page_names_a_setting_that_does_not_exist(name: str) -> None:
    """A reader who copies a ``SPATIO_`` name from the documentation gets what it promises."""
    named = set(re.findall(r"\bSPATIO_[A-Z_]+[A-Z]\b", PAPERS[name]))

    # The example keys of the encryption section live in the environment.
    assert named - NAMES <= {"SPATIO_ENCRYPTION_KEY"}


# Error codes


def codes_in(source: str) -> set[str]:
    """Give the error codes that *source* spells out, by how this package writes them."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        found |= {keyword.value for keyword in node.keywords if keyword.arg == "code"}
        function = node.func.id if isinstance(node.func, ast.Name) else ""
        if function in {"_bad", "bad_member", "refusal"}:
            found |= set(node.args[:1])
    return {
        constant.value
        for value in found
        for constant in ast.walk(value)
        if isinstance(constant, ast.Constant) and isinstance(constant.value, str)
    }


def codes() -> set[str]:
    """Give every error code that the package can raise."""
    package = ROOT / "spatio_django"
    sources = [path for path in package.rglob("*.py") if package / "testing" not in path.parents]
    return set(explanations.BY_CODE).union(*(codes_in(path.read_text()) for path in sources))


def test_every_error_code_is_explained_to_operators() -> None:
    """Whoever finds a code in a log finds it in the documentation."""
    assert codes() - set(re.findall(r"`([a-z_]+)`", PAGES["errors.md"])) == set()


def transport_codes() -> set[str]:
    """Give the codes in the table at the top of the transport's module."""
    text = (ROOT / "spatio_django" / "oidc" / "http.py").read_text()
    return set(re.findall(r"^([a-z_]+) +``P", text, re.MULTILINE))


def test_every_way_a_connection_fails_is_documented() -> None:
    """The failures of the transport, listed in its module, are in the error reference."""
    assert len(transport_codes()) > 5
    assert transport_codes() <= first_column(PAGES["errors.md"])


#: Codes that are nowhere spelled out as such: names of claims and members, and what no specification knows.
CODES_BY_NAME = {
    *("azp", "nonce", "exp", "iat", "nbf", "auth_time", "at_hash"),
    *("access_token", "refresh_token"),
    *("userinfo_endpoint", "registration_endpoint", "revocation_endpoint"),
    "signed_out",
    *("client_id_issued_at", "client_secret_expires_at", "registration_access_token"),
    *("grant_types", "response_types"),
    "unknown_error",
}


def test_the_documentation_explains_no_error_code_that_is_never_raised() -> None:
    """A code in the tables is one that can be met."""
    raised = codes() | transport_codes() | KNOWN_ERRORS | CODES_BY_NAME

    assert first_column(PAGES["errors.md"]) <= raised


# Operations


def test_every_event_and_every_reason_is_told_to_operators() -> None:
    """Whoever reads ``event`` or ``reason`` in a log record finds it in the documentation."""
    sources = [path.read_text() for path in (ROOT / "spatio_django").glob("*.py")]
    events = {event for source in sources for event in re.findall(r'"event": "(\w+)"', source)}
    text = section(PAGES["operations.md"], "What is logged")

    assert len(events) >= 5
    assert first_column(text) == events | set(REASONS) - {"discarded"}  # the last ends no grant


# Quickstart


@pytest.mark.parametrize("page", ["README.md", "installation.md"])
def test_the_example_project_has_the_settings_of_the_quickstart(page: str) -> None:
    """What the quickstart says is what the example does, word for word, so that one proves the other."""
    (block,) = (block for block in blocks(PAPERS[page], "python") if "AUTHENTICATION_BACKENDS" in block)
    lines = block.removeprefix("# settings.py\n")

    assert "LOGIN_URL" in lines
    assert f"\n{lines}\n" in (ROOT / "example_project" / "settings.py").read_text()


def test_the_example_project_has_the_address_of_the_quickstart() -> None:
    """The one line for ``urls.py`` stands in the example as the README has it."""
    line = 'path("spatio/", include("spatio_django.urls"))'

    assert line in README
    assert line in PAGES["installation.md"]
    assert line in (ROOT / "example_project" / "urls.py").read_text()


def test_the_example_project_uses_the_buttons_of_the_quickstart() -> None:
    """Both template tags of the README are in the example's templates."""
    templates = "".join(path.read_text() for path in (ROOT / "example_project").rglob("*.html"))

    for tag in ("{% load spatio %}", "{% spatio_login_button %}", "{% spatio_logout_button %}"):
        assert tag in README
        assert tag in templates


@pytest.mark.parametrize("block", PYTHON)
def test_the_python_of_the_documentation_compiles(block: str) -> None:
    """What is there to be copied is at least Python."""
    compile(block, "documentation", "exec")


@pytest.mark.parametrize("block", PYTHON)
def test_the_imports_of_the_documentation_work(block: str) -> None:
    """What the examples import from this package is there."""
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("spatio_django"):
            exec(compile(ast.Module([node], []), "documentation", "exec"), {})  # noqa: S102 - as above


@pytest.mark.parametrize("block", blocks(PAGES["customising.md"], "python"))
def test_the_examples_of_customising_run(block: str) -> None:
    """Each is whole: it imports what it uses, and what it overrides is there."""
    example: dict[str, Any] = {"__name__": "example"}
    exec(block, example)  # noqa: S102 - as above

    for kind in filter(inspect.isclass, example.values()):
        if kind.__module__ == "example":
            for name, value in vars(kind).items():
                assert not inspect.isfunction(value) or hasattr(kind.__base__, name), name


@pytest.mark.django_db
def test_the_example_of_testing_passes(spatio: FakeSpatio, settings: Any, client: Client) -> None:
    """The test that sites are told to begin with passes on a site with the quickstart."""
    (block,) = (block for block in blocks(PAGES["testing.md"], "python") if "def test_" in block)
    example: dict[str, Any] = {}
    exec(block, example)  # noqa: S102 - as above

    example["test_members_see_their_page"](spatio, settings, client)


# Templates


def test_every_template_and_block_for_sites_to_override_is_documented() -> None:
    """A site finds the name of whatever it may replace; none is named that is not there."""
    text = section(PAGES["customising.md"], "Templates")
    folder = ROOT / "spatio_django" / "templates" / "spatio_django"
    shown = {path.name for path in folder.glob("*.html")} - {"page.html"}  # what the pages share
    in_pages = re.findall(r"{% block (spatio_\w+)", (folder / "page.html").read_text())

    assert set(re.findall(r"^\| `(\w+\.html)`", text, re.MULTILINE)) == shown
    assert set(re.findall(r"`(spatio_\w+)`", text)) == set(in_pages)


# Commands


def one_command(heading: str) -> str:
    """Give the single line to paste under a heading of the README."""
    (block,) = blocks(section(README, heading), "console")
    (line,) = block.splitlines()
    return str(line)


def test_the_readme_has_one_line_to_try_it_and_one_to_test_it() -> None:
    """Each of the two stands alone under its heading, and begins with a fresh environment."""
    for heading in ("Try it", "Test it"):
        assert one_command(heading).startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_other_pages_repeat_the_commands_of_the_readme_word_for_word() -> None:
    """The line in CONTRIBUTING and the one on the front page are the README's."""
    assert one_command("Test it") in (ROOT / "CONTRIBUTING.md").read_text()
    assert one_command("Try it") in PAGES["index.md"]


def test_continuous_integration_runs_the_command_of_the_readme() -> None:
    """The script takes the line from the README itself; what else it runs comes on top."""
    script = (ROOT / ".ci" / "run").read_text()

    assert "/^## Test it$/" in script
    assert "README.md" in script
    environments = "postgresql,mariadb,providers,servers,thorough-django61"
    assert re.findall(r"\btox\b.*", re.sub(r"#.*", "", script)) == [
        f'tox run -e {environments} 2>&1 | tee -a "$log" || status=$?'
    ]


# Versions and links


def test_the_changelog_has_a_heading_for_this_version() -> None:
    """A version is not released without telling what is in it."""
    changelog = (ROOT / "CHANGELOG.md").read_text()

    assert re.search(rf"^## \[{re.escape(spatio_django.__version__)}\]", changelog, re.MULTILINE)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"])
def test_links_between_files_lead_somewhere(name: str) -> None:
    """A relative link names a file that exists."""
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / name).read_text()):
        assert (ROOT / target).exists(), target
