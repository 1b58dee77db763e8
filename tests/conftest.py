"""What several test modules share."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from affectline.models.registry import all_models
from affectline.models.store import Store, default_root
from affectline.server.engine import DEFAULT_MODELS, Engine

from . import postgres as postgres_server


@pytest.fixture(scope="session")
def example() -> Path:
    """A real two-party call: 8 kHz, left = customer, right = agent."""
    return Path(__file__).parents[1] / "examples/dealership_call.flac"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The default models, fetched when they are not in the store yet."""
    store = Store(default_root())
    for name in DEFAULT_MODELS.values():
        if (artifact := all_models()[name].artifact) is not None:
            store.pull(artifact)
    return Engine(store=store)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of an empty PostgreSQL database; who fills it empties it again."""
    if not postgres_server.AVAILABLE:
        pytest.skip("PostgreSQL or psycopg is not installed")
    with postgres_server.running() as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A real Chromium, where there is one; not for longer than a module, since no event loop can run beside it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        pytest.skip("no Chromium on this machine")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield launched
        launched.close()
