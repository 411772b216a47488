"""Which weights of a text encoder are admitted: safetensors always, pickles only where somebody said so."""

import os
from pathlib import Path

import pytest
import torch
from models.text_encoders import write_t5
from transformers import T5EncoderModel

from opensora.checkpoint.layout import ALLOW_PICKLE, T5, LayoutError, present
from opensora.checkpoint.safetensors_io import CheckpointError
from opensora.models.text.loading import read_network


class Hostile:
    """Makes a folder when it is unpickled without care."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.folder,)


@pytest.fixture
def pickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A T5 as a pickle only, and nobody who allowed that."""
    monkeypatch.delenv(ALLOW_PICKLE, raising=False)
    folder = write_t5(tmp_path / "t5")
    torch.save(read_network("T5EncoderModel", folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_a_pickled_encoder_is_refused_and_the_option_is_named(pickled: Path) -> None:
    for attempt in (lambda: present(pickled, T5, "t5"), lambda: read_network("T5EncoderModel", pickled)):
        with pytest.raises(LayoutError, match=r"pickled weights .* or the option --allow-pickle \(OPENSORA_ALLOW_PIC"):
            attempt()


def test_a_pickled_encoder_that_is_allowed_has_the_same_numbers(
    pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW_PICKLE, "1")
    expected: T5EncoderModel = read_network("T5EncoderModel", write_t5(tmp_path / "again"))
    found = read_network("T5EncoderModel", pickled)
    assert all(torch.equal(value, found.state_dict()[name]) for name, value in expected.state_dict().items())


def test_code_in_an_allowed_pickle_is_refused_and_does_not_run(
    pickled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOW_PICKLE, "1")
    torch.save({"shared.weight": Hostile(tmp_path / "ran")}, pickled / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_network("T5EncoderModel", pickled)
    assert not (tmp_path / "ran").exists()
    torch.load(pickled / "pytorch_model.bin", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file is as hostile as it should be"
