"""docs/attacks.md and the tests say the same."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
DOCS = FOLDER.parents[1] / "docs"
DOCUMENT = (DOCS / "attacks.md").read_text()
ERRORS = (DOCS / "errors.md").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the tables."""

    attacker: str
    answer: str
    tests: tuple[str, ...]


ROWS = [
    Row(attacker=attacker, answer=answer, tests=tuple(re.findall("`(test_[a-z0-9_]+)`", tests)))
    for attacker, answer, tests in re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| (`[^|]+) \|$", DOCUMENT, re.MULTILINE
    )
]


def found_in(folder: Path) -> dict[str, Path]:
    """Give the tests below *folder*, by name, with the file of each."""
    return {
        node.name: path
        for path in folder.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


EVERYWHERE = found_in(FOLDER.parent)


def test_every_line_of_the_tables_is_a_row() -> None:
    """No row is passed over because it is written otherwise, and none is there twice."""
    lines = [line for line in DOCUMENT.splitlines() if line.startswith("| ")]
    headings = DOCUMENT.count("| The attacker | What answers | Test |")
    assert len(ROWS) == len(lines) - 2 * headings > 70
    assert len({row.attacker for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("row", [pytest.param(row, id=row.attacker[:60]) for row in ROWS])
def test_each_attack_is_shown_by_tests_that_exist(row: Row) -> None:
    """A renamed or deleted test is missed."""
    assert row.tests
    assert [name for name in row.tests if name not in EVERYWHERE] == []


def test_every_attack_that_is_tested_here_is_in_the_table() -> None:
    """A reviewer reads the table, so nothing is tested in silence."""
    here = {name for name, path in found_in(FOLDER).items() if path.name != Path(__file__).name}

    assert here - {name for row in ROWS for name in row.tests} == set()


def test_each_code_that_an_answer_names_is_documented() -> None:
    """Codes stand after a comma, a colon or "or"; other words in that type are parameters and headers."""
    named = {
        code
        for row in ROWS
        for phrase in re.findall(r"refused[,:] ((?:`[a-z_]+`(?:, | or )?)+)", row.answer)
        for code in re.findall("`([a-z_]+)`", phrase)
    }

    assert len(named) > 15
    assert [code for code in sorted(named) if f"`{code}`" not in ERRORS] == []
