"""Bundles of tiny networks with random weights."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pipelines.bundles import write_bundle

from opensora.pipelines.build import release_models


@pytest.fixture(scope="session")
def bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "random")


@pytest.fixture(scope="session")
def other_bundle_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture with other weights, for text alone."""
    folder = tmp_path_factory.mktemp("bundles") / "other"
    return write_bundle(folder, seed=5, name="other", modes=["t2v", "t2i"])


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measured speeds of random networks stay out of the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(autouse=True, scope="module")
def released() -> Iterator[None]:
    yield
    release_models()
