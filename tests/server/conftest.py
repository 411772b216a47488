"""A server without and one with a login."""

from collections.abc import Iterator

import pytest
from serving import Running, serving, users_file


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Without a login, for programs of this machine."""
    with serving(tmp_path_factory.mktemp("local")) as running:
        yield running


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With the users ada and bob."""
    folder = tmp_path_factory.mktemp("guarded")
    keys = users_file(folder / "users.json", "ada", "bob")
    with serving(folder, keys=keys, users=folder / "users.json") as running:
        yield running
