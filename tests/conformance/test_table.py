"""docs/conformance.md and the tests say the same."""

import ast
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
DOCS = FOLDER.parents[1] / "docs"
DOCUMENT = (DOCS / "conformance.md").read_text()
ERRORS = (DOCS / "errors.md").read_text()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the tables of cases."""

    number: int
    module: str
    outcome: str
    test: str

    @property
    def codes(self) -> set[str]:
        """The error codes that the outcome names."""
        return set(re.findall("`([a-z_]+)`", self.outcome))


ROWS = [
    Row(number=int(number), module=module.replace("`", ""), outcome=outcome, test=test.strip("`"))
    for number, module, _, outcome, test in re.findall(
        r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", DOCUMENT, re.MULTILINE
    )
]
MET = [pytest.param(row, id=row.module) for row in ROWS if row.outcome.startswith("met")]


def cases() -> dict[str, str]:
    """Give the tests that are cases of the suite, by name, with their source."""
    found = {}
    for path in FOLDER.glob("test_*.py"):
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and re.match("test_(oidcc|fapi)", node.name):
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "\n".join(text.splitlines()[start - 1 : node.end_lineno])
    return found


def test_the_table_is_whole() -> None:
    """The forty-five cases and the newer ones stand there once each, and each is met."""
    assert [row.number for row in ROWS] == list(range(1, 49))
    assert len({row.module for row in ROWS}) == len(ROWS)
    assert len(MET) == len(ROWS)


@pytest.mark.parametrize("row", MET)
def test_what_is_met_has_a_test_under_its_id(row: Row) -> None:
    """The name follows from the module's; the error codes are those that the test checks, and documented."""
    assert row.test == "test_" + re.sub(r"[^a-z0-9]+", "_", row.module).strip("_")
    source = cases()[row.test]

    for code in row.codes:
        assert f'"{code}"' in source
        assert f"`{code}`" in ERRORS


def test_every_case_is_in_the_table() -> None:
    """No case is tested in silence."""
    assert set(cases()) == {row.test for row in ROWS}
