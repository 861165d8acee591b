"""Two OpenID providers that nobody here wrote, each a process per test session (and per xdist worker)."""

import importlib.util
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django.live_server_helper import LiveServer

from tests.providers.process import Provider, running

FOLDER = Path(__file__).parent / "oidc_provider"


@pytest.fixture(scope="session")
def oidc_provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Run oidc-provider from npm, or skip."""
    node = shutil.which("node")
    if node is None or not (FOLDER / "node_modules" / "oidc-provider").is_dir():
        pytest.skip("oidc-provider is not there: `npm ci --prefix tests/providers/oidc_provider` (Node 20+).")
    folder = tmp_path_factory.mktemp("oidc_provider")
    with running([node, str(FOLDER / "server.mjs"), str(folder / "requests.jsonl")], folder) as provider:
        yield provider


@pytest.fixture(scope="session")
def django_oauth_toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Run django-oauth-toolkit from PyPI, or skip."""
    if importlib.util.find_spec("oauth2_provider") is None:
        pytest.skip("django-oauth-toolkit is not there: `pip install --group providers`.")
    folder = tmp_path_factory.mktemp("django_oauth_toolkit")
    command = [sys.executable, "-m", "tests.providers.django_oauth_toolkit.serve"]
    with running(command, folder, environment={"SPATIO_TESTS_PROVIDER_FOLDER": str(folder)}) as provider:
        yield provider


@pytest.fixture(scope="session")
def patient_django_oauth_toolkit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """Run one that takes the refresh token before the newest for ten minutes, as some providers do."""
    if importlib.util.find_spec("oauth2_provider") is None:
        pytest.skip("django-oauth-toolkit is not there: `pip install --group providers`.")
    folder = tmp_path_factory.mktemp("patient_django_oauth_toolkit")
    command = [sys.executable, "-m", "tests.providers.django_oauth_toolkit.serve"]
    environment = {"SPATIO_TESTS_PROVIDER_FOLDER": str(folder), "SPATIO_TESTS_PROVIDER_GRACE": "600"}
    with running(command, folder, environment=environment) as provider:
        yield provider


@pytest.fixture
def origin(transactional_db: None) -> Iterator[str]:
    """
    Serve the site over real HTTP, and give its origin.

    On ``localhost``, while the providers are on ``127.0.0.1``: two hosts to a browser, as in production.
    """
    server = LiveServer("localhost")
    yield server.url
    server.stop()
