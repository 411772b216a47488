"""A server without and one with a login, and a machine that is too small."""

from collections.abc import Iterator

import pytest
from serving import Running, serving, users_file

from opensora.pipelines import verdict
from opensora.pipelines.memory import Room
from opensora.pipelines.preflight import estimate
from opensora.pipelines.request import GenerationRequest


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


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which a clip of 17 frames fits and none of 65 does."""
    most = estimate(GenerationRequest("a red ball", length="17f")).bytes_memory
    monkeypatch.setattr(verdict, "room", lambda _: Room(2 * most, most))
