"""Downloads of the page against a hub on loopback: they go on by themselves, stop when asked, and say what is wrong."""

import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from gradio import EventData
from hub_server import Hub, serve
from safetensors.numpy import save

from opensora.checkpoint import hub as client
from opensora.models import zoo
from opensora.models.presets import Component, Preset
from opensora.ui import model_acts, people
from opensora.ui.model_acts import Models
from opensora.ui.model_downloads import Downloads, Phase, Status
from opensora.ui.words import ENGLISH, LANGUAGES

MB = 1 << 20
FREE = namedtuple("FREE", "total used free")


def weights(count: int, seed: int) -> bytes:
    """A file of weights that takes about so many bytes."""
    return save({"w": np.random.default_rng(seed).integers(0, 256, count, np.uint8)})


def preset(name: str, size: int) -> Preset:
    """A model with a denoiser of its own, and an autoencoder that it shares."""
    return Preset(
        name,
        name.title(),
        "1.3",
        ("t2v",),
        ("144p",),
        (Component("stdit", f"someone/{name}", size // 4), Component("vae", "someone/shared", 25_000)),
    )


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with two models, an empty cache, and nobody's token."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    known = {"large": preset("large", 21 * MB), "small": preset("small", 200_000), "tiny": zoo.PRESETS["tiny"]}
    monkeypatch.setattr(zoo, "PRESETS", known)
    monkeypatch.setattr(zoo, "weights", lambda preset: SimpleNamespace())  # its networks are not those of a family
    with serve() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        running.add("someone/large", {"model.safetensors": weights(21 * MB, 1)}, "slow")
        running.add("someone/small", {"model.safetensors": weights(200_000, 2)})
        running.add("someone/shared", {"model.safetensors": weights(100_000, 3)})
        yield running


def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def status(downloads: Downloads, name: str) -> Status:
    found = downloads.status(zoo.PRESETS[name])
    assert found is not None
    return found


def ended(downloads: Downloads, name: str) -> Status:
    until(lambda: not status(downloads, name).phase.busy)
    return status(downloads, name)


def ranges(hub: Hub) -> list[str | None]:
    return [r.headers.get("range") for r in hub.requests if r.host == "storage" and "large" in r.path]


def test_a_download_goes_on_by_itself_until_the_model_is_here(hub: Hub) -> None:
    downloads = Downloads()
    assert downloads.status(zoo.PRESETS["small"]) is None
    downloads.begin("small")
    found = ended(downloads, "small")
    sizes = sum(len(hub.repositories[f"someone/{name}"].files["model.safetensors"]) for name in ("small", "shared"))
    assert (found.phase, found.done, found.total, found.error) == (Phase.DONE, sizes, sizes, "")
    assert zoo.status(zoo.PRESETS["small"]).installed and not downloads.busy
    asked = len(hub.requests)
    for name in ("small", "tiny", "nothing"):
        downloads.begin(name)
    assert len(hub.requests) == asked and not downloads.busy


def test_a_paused_download_is_known_after_a_restart_and_goes_on(hub: Hub) -> None:
    downloads = Downloads()
    downloads.begin("large")
    until(lambda: status(downloads, "large").done >= 10 * MB)
    downloads.begin("large")  # once is enough
    downloads.pause("large")
    found = ended(downloads, "large")
    assert found.phase is Phase.PAUSED and not found.stopping and not zoo.status(zoo.PRESETS["large"]).installed
    held = client.held_bytes("someone/large")
    assert held in (10 * MB, 20 * MB) or held == 0  # paused with the first report: nothing was written yet
    again = Downloads()
    if held:
        assert (status(again, "large").phase, status(again, "large").done) == (Phase.PAUSED, held)
    again.begin("large")
    assert ended(again, "large").phase is Phase.DONE
    assert ranges(hub) == [None, f"bytes={held}-" if held else None]


def test_a_cancelled_download_leaves_no_part(hub: Hub) -> None:
    downloads = Downloads()
    downloads.begin("large")
    until(lambda: client.held_bytes("someone/large") >= 10 * MB)
    downloads.cancel("large")
    until(lambda: downloads.status(zoo.PRESETS["large"]) is None)
    until(lambda: client.held_bytes("someone/large") == 0)
    part = client.repository_folder("someone/large") / "blobs" / f"{'0' * 64}.opensora-part"
    part.write_bytes(b"of before the server was started")
    assert status(downloads, "large").phase is Phase.PAUSED
    downloads.cancel("large")
    assert downloads.status(zoo.PRESETS["large"]) is None and not part.exists()


def test_what_is_wrong_is_a_sentence_and_the_next_try_goes_on(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = Downloads()
    hub.repositories["someone/small"].mode = "corrupt"
    downloads.begin("small")
    found = ended(downloads, "small")
    assert found.phase is Phase.FAILED and "is not what the hub says it is" in found.error
    hub.repositories["someone/small"].mode = "fine"
    asked = len(hub.requests)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: FREE(10**6, 0, 150_000))
        downloads.begin("small")
        found = ended(downloads, "small")
    assert "needs 300 kB, and 150 kB are free" in found.error and len(hub.requests) == asked
    downloads.begin("small")
    assert ended(downloads, "small").phase is Phase.DONE


def test_models_come_one_after_the_other_and_what_they_share_once(hub: Hub) -> None:
    downloads = Downloads()
    downloads.begin("large")
    until(lambda: status(downloads, "large").phase is Phase.RUNNING)
    downloads.begin("small")
    assert status(downloads, "small").phase is Phase.WAITING
    downloads.pause("small")
    assert ended(downloads, "small").phase is Phase.PAUSED and status(downloads, "large").phase.busy
    downloads.begin("small")
    assert [ended(downloads, name).phase for name in ("large", "small")] == [Phase.DONE, Phase.DONE]
    assert len([path for path in hub.transfers() if path.startswith("/someone/shared/model")]) == 1


def test_only_who_may_change_what_is_installed_can_download(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    models = Models(SimpleNamespace())  # type: ignore[arg-type]  # no clip is made
    for act in ("download", "pause-download", "cancel-download"):
        refused = models.act(ENGLISH, act, "small", admin=False)
        assert refused.startswith("On this page only an administrator may") and "--download small" in refused
        assert "관리자만" in models.act(LANGUAGES["ko"], act, "small", admin=False)
    assert not models.busy and hub.requests == []
    assert models.act(ENGLISH, "download", "small", admin=True) == ""
    assert ended(models.downloads, "small").phase is Phase.DONE
    monkeypatch.setattr(model_acts.zoo, "PRESETS", {})
    assert models.act(ENGLISH, "check", "small", admin=False) == "" and not models.busy


def test_handlers_are_told_who_may_change_what_is_installed() -> None:
    def echo(*values: Any) -> Any:
        return values

    for state, admin in (({"person": "mina", "admin": True}, True), ({"person": "mina"}, False), ({}, False)):
        request = SimpleNamespace(request=SimpleNamespace(state=SimpleNamespace(**state)))
        browser, told, event = people.managing(echo)(request, "event", {"owner": "x"})
        assert (browser["owner"], told, event) == (state.get("person", "x"), admin, "event")
    for nothing in (None, EventData(None, None)):
        assert people.told(nothing, "act") == ""
    assert people.told(EventData(None, {"act": "check"}), "act") == "check"
    assert people.told(EventData(None, {"act": "check"}), "name") == ""
    assert people.admin_of(SimpleNamespace(request=None)) is False  # type: ignore[arg-type]
