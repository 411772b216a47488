"""The precision of the text encoder: asked for in a request, used, recorded, and asked for again by the file."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pipelines import bundles_v2

from opensora import generate_video
from opensora.models.text.precision import BYTES, PRECISIONS
from opensora.pipelines import preflight
from opensora.pipelines.build import release_models
from opensora.pipelines.preflight import estimate, offload_of
from opensora.pipelines.reproduce import read_settings
from opensora.pipelines.request import TEXT_DTYPES, GenerationRequest, RequestError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield bundles_v2.write_bundle(tmp_path_factory.mktemp("bundles") / "v2")
    release_models()


def test_a_request_offers_the_precisions_of_the_encoder() -> None:
    assert tuple(PRECISIONS) == tuple(BYTES) == TEXT_DTYPES


def test_it_changes_the_picture_is_recorded_and_comes_back_from_the_file(folder: Path, tmp_path: Path) -> None:
    settings = {"model": folder, "length": "1f", "steps": 1, "seed": 3, "dtype": "fp32"}
    usual = generate_video("a red ball", **settings)
    half = generate_video("a red ball", text_dtype="bf16", **settings)
    assert (usual.plan["text_dtype"], half.plan["text_dtype"]) == ("fp32", "bf16")
    assert not np.array_equal(usual.frames, half.frames) and "text_dtype" not in half.settings
    for result, asked in ((usual, None), (half, "bf16")):
        (file,) = result.save(tmp_path / f"{asked}.png")
        assert read_settings(file).request.text_dtype == asked


def test_what_cannot_be_computed_here_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in ("fp8", 4, ""):
        with pytest.raises(RequestError, match="choose one of fp32, bf16, int8, nf4") as told:
            GenerationRequest("x", model=folder, text_dtype=asked).validated()  # type: ignore[arg-type]
        assert told.value.field == "text_dtype"
    with pytest.raises(RequestError, match="stays on its device") as told:
        GenerationRequest("x", model=folder, text_dtype="int8", offload=True).validated()
    assert told.value.field == "offload"
    monkeypatch.setattr("opensora.models.text.precision.find_spec", lambda name: None)
    with pytest.raises(RequestError, match="needs bitsandbytes") as told:
        estimate(GenerationRequest("x", model=folder, length="1f", text_dtype="nf4"))
    assert told.value.field == "text_dtype"


def test_fewer_bits_count_as_less_memory_and_keep_the_encoder_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {name: GenerationRequest("x", model="opensora-2.0", length="5f", text_dtype=name) for name in TEXT_DTYPES}
    bytes_of = {name: estimate(request).bytes_memory for name, request in asked.items() if name in ("fp32", "bf16")}
    assert 9e9 < bytes_of["fp32"] - bytes_of["bf16"] < 12e9
    monkeypatch.setattr(preflight.residence, "choose_offload", lambda *_: "all")
    for name, request in asked.items():
        whole = request.validated()
        assert offload_of(whole, whole.bundle()) == ("none" if name in ("int8", "nf4") else "all")
