"""
Three rules that pytest itself doesn't have; loaded for every run by ``addopts`` in pyproject.toml.

* Tests in the folders that meet lies, attacks, storms and generated inputs are marked ``thorough``: they take
  as long as all others together, so a run on each pair of Python and Django leaves them out
  (``-m "not thorough"``).
* Tests that use the development provider are marked ``provider``, so that a run without the extra
  ``testing`` can leave them out (``-m "not provider"``).
* Under ``SPATIO_TESTS_REQUIRE_ALL=1`` a skipped test is a failed test: in continuous integration everything
  is there, so that "Chromium is missing" is a fault of the machine and must not pass in silence.
"""

import os
from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import pytest

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)

REQUIRE_ALL = "SPATIO_TESTS_REQUIRE_ALL"
FOLDERS = ("attacks", "faults/long", "hostile", "properties", "refresh")
THOROUGH = {Path(__file__).parent / name for name in FOLDERS}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is thorough, and what uses the provider, directly or through other fixtures."""
    for item in items:
        if item.path.parent in THOROUGH:
            item.add_marker(pytest.mark.thorough)
        if "spatio" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.provider)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test that skips fail, where everything must run."""
    report = yield
    return refuse_skip(report)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let a module that skips as a whole fail likewise."""
    report = yield
    return refuse_skip(report)


def refuse_skip(report: Report) -> Report:
    """Turn "skipped" into "failed", if asked for; an expected failure stays one."""
    if os.environ.get(REQUIRE_ALL) and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason}\n({REQUIRE_ALL} is set: nothing may be skipped.)"
    return report
