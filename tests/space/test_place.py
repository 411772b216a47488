"""What a Space is told apart by, where its files go, and what its visitors are told."""

from pathlib import Path

import pytest

from opensora.space import place
from opensora.space.place import Space, settle, space_of

ON_SPACE = {"SPACE_ID": "someone/open-sora", "SYSTEM": "spaces"}


def test_outside_of_a_space_nothing_changes(tmp_path: Path) -> None:
    environment = {"HOME": str(tmp_path)}
    assert settle(environment, tmp_path) is None and environment == {"HOME": str(tmp_path)}


def test_files_go_to_the_storage_where_there_is_one(tmp_path: Path) -> None:
    environment = dict(ON_SPACE)
    space = settle(environment, tmp_path)
    assert space == Space("someone/open-sora", tmp_path, kept=True)
    assert environment["OPENSORA_OUTPUT_DIR"] == str(tmp_path / "outputs")
    assert environment["HF_HOME"] == str(tmp_path / "hf") and environment["XDG_CACHE_HOME"] == str(tmp_path / "cache")
    assert space.notice() == "Clips are kept on this Space's own storage."
    assert list(tmp_path.iterdir()) == []


def test_without_storage_they_go_to_a_folder_that_is_said_to_vanish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place.tempfile, "tempdir", str(tmp_path))
    environment = ON_SPACE | {"HF_HOME": "/elsewhere"}
    space = settle(environment, tmp_path / "nowhere")
    assert space is not None and not space.kept and space.folder == tmp_path / "opensora-space"
    assert space.folder.stat().st_mode & 0o777 == 0o700
    assert environment["HF_HOME"] == "/elsewhere"
    assert "gone when it restarts" in space.notice() and "Download" in space.notice()


def test_a_folder_that_only_seems_writable_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(place.tempfile, "NamedTemporaryFile", full)
    space = space_of(ON_SPACE, tmp_path)
    assert space is not None and not space.kept


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("true", True), ("", False), ("0", False)])
def test_the_button_is_asked_for(tmp_path: Path, value: str, shown: bool) -> None:
    space = space_of(ON_SPACE | {"OPENSORA_DUPLICATE_BUTTON": value}, tmp_path)
    assert space is not None and space.duplicate is shown


def test_a_setting_that_is_neither_yes_nor_no_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Got 'perhaps' for OPENSORA_DUPLICATE_BUTTON; expected one of 1, true"):
        space_of(ON_SPACE | {"OPENSORA_DUPLICATE_BUTTON": "perhaps"}, tmp_path)


@pytest.mark.parametrize(("found", "words"), [(object(), "your own daily quota"), (None, "without a GPU")])
def test_zero_gpu_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: object, words: str) -> None:
    monkeypatch.setattr(place.importlib.util, "find_spec", lambda name: found)
    space = space_of(ON_SPACE | {"SPACES_ZERO_GPU": "true"}, tmp_path)
    assert space is not None and space.zero_gpu and space.uses_zero_gpu is (found is not None)
    assert words in space.notice()
