"""A file that takes too long, takes too much or crashes its decoder costs one process and is a sentence.

``OPENSORA_FUZZ_UPLOADS`` is the number of mutated files, 50; 3000 in the long run.
"""

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from upload_files import RED, encoded, gif_of_size, png_clip, refers_to, small_mp4

from opensora.datasets import confined
from opensora.datasets.clip_limits import ClipLimits
from opensora.datasets.confined import Bounds, Readers
from opensora.datasets.image_io import load_image
from opensora.datasets.video_io import read_metadata, read_video

EXAMPLES = int(os.environ.get("OPENSORA_FUZZ_UPLOADS", "50"))
LIMITS = ClipLimits(bytes=2**24, frame_pixels=10**6, pixels=10**7, frames=100, seconds=100)


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    found = Readers(Bounds(at_once=1))
    yield found
    found.close()


def process(readers: Readers) -> psutil.Process:
    return psutil.Process(readers._idle[0]._process.pid)


def test_what_is_read_is_what_would_be_read_here(readers: Readers, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(encoded(Image.effect_noise((300, 200), 50).convert("RGB")))
    assert np.array_equal(readers.image(tmp_path / "a"), load_image(tmp_path / "a"))
    assert np.array_equal(readers.image((tmp_path / "a").read_bytes()), load_image(tmp_path / "a"))
    small_mp4(tmp_path / "b.mp4")
    clip, here = readers.clip(tmp_path / "b.mp4", LIMITS), read_video(tmp_path / "b.mp4")
    assert np.array_equal(clip.frames, here.frames) and clip.fps == here.fps == 24
    assert readers.settings(tmp_path / "b.mp4") == read_metadata(tmp_path / "b.mp4") == {"a": 1}


def test_refusals_are_those_of_the_reader_and_the_process_goes_on(readers: Readers, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_bytes(b"hello")
    readers.image(encoded(Image.new("RGB", (3, 3))))
    before = process(readers).pid
    for call, message in (
        (lambda: readers.image(tmp_path / "text.png"), "text.png is no picture that can be read"),
        (lambda: readers.image(tmp_path / "no.png"), "There is no image file 'no.png'"),
        (lambda: readers.image(b"hello"), "The image is no picture that can be read"),
        (lambda: readers.clip(tmp_path / "text.png", LIMITS), "text.png is no clip that can be read"),
        (lambda: readers.settings(tmp_path / "text.png"), "text.png is no clip that can be read"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert process(readers).pid == before


def test_the_process_knows_no_secrets_and_cannot_write(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    readers.close()
    readers.image(encoded(Image.new("RGB", (3, 3))))
    assert "hf_secret" not in str(process(readers).environ())
    if hasattr(psutil, "RLIMIT_FSIZE"):
        assert process(readers).rlimit(psutil.RLIMIT_FSIZE)[0] == 0
        assert 0 < process(readers).rlimit(psutil.RLIMIT_AS)[0] < 2**33


def test_a_crash_is_a_sentence_and_the_next_file_is_read(readers: Readers) -> None:
    large = encoded(Image.effect_noise((1500, 1000), 50))
    readers.image(encoded(Image.new("RGB", (3, 3))))
    victim = process(readers)
    threading.Timer(0.02, lambda: victim.send_signal(signal.SIGTERM)).start()
    with pytest.raises(ValueError, match="is damaged and cannot be read"):
        for _ in range(100):
            readers.image(large)
    assert readers.image(encoded(Image.new("RGB", (3, 3), RED))).getpixel((1, 1)) == RED
    assert process(readers).pid != victim.pid


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        (Bounds(image_seconds=0.05, clip_seconds=0.05), "took longer than 0.05 seconds"),
        (Bounds(memory=2**26), "needs (too much|more) memory"),
    ],
    ids=["time", "memory"],
)
def test_what_takes_too_much_is_ended(bounds: Bounds, message: str, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    large.write_bytes(encoded(Image.new("L", (6000, 6000))))
    readers = Readers(bounds)
    with pytest.raises(ValueError, match=message):
        readers.image(large)
    if bounds.clip_seconds < 1:
        (tmp_path / "long.mp4").write_bytes(gif_of_size(900, 900, 20_000))
        with pytest.raises(ValueError, match=message):
            readers.clip(tmp_path / "long.mp4", ClipLimits(pixels=2**40))
    readers.close()


def test_a_process_is_replaced_after_so_many_files() -> None:
    readers = Readers(Bounds(files=2, at_once=1))
    pids = []
    for _ in range(3):
        readers.image(encoded(Image.new("RGB", (3, 3))))
        pids.append([reader._process.pid for reader in readers._idle])
    readers.close()
    assert pids[0] and pids[1] == [] and pids[2] and pids[0] != pids[2]


def test_a_process_that_cannot_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confined.sys, "executable", shutil.which("false"))
    with pytest.raises(ValueError, match="the process that reads them ended with 1 at its start"):
        Readers().image(b"")


@pytest.mark.parametrize("change", [{"at_once": 0}, {"image_seconds": -1.0}, {"memory": float("nan")}])
def test_bounds_that_are_none_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected more than 0"):
        Bounds(**change)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Good files of every kind."""
    folder, noise = tmp_path_factory.mktemp("seeds"), Image.effect_noise((24, 16), 60)
    deep = Image.fromarray(np.arange(24 * 16, dtype=np.uint16).reshape(16, 24) * 99)
    pictures = [encoded(noise.convert("RGB"), kind) for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF")]
    pictures += [encoded(noise.convert("CMYK"), "JPEG"), encoded(deep), encoded(deep, "TIFF", compression="tiff_lzw")]
    moving = [noise.convert("P"), Image.new("P", (24, 16))]
    pictures.append(encoded(moving[0], "GIF", save_all=True, append_images=moving[1:]))
    mp4 = small_mp4(folder / "a.mp4", 3, 16, 24)
    clips = [mp4, png_clip(folder / "b.mov", 24, 16, 2), gif_of_size(24, 16, 3, 0), refers_to(mp4, "a.mp4")]
    return [*pictures, *clips]


@given(data=st.data())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=EXAMPLES <= 50,
)
def test_no_file_however_mangled_is_more_than_a_sentence(
    readers: Readers, seeds: list[bytes], tmp_path: Path, data: st.DataObject
) -> None:
    mangled = bytearray(data.draw(st.sampled_from(seeds)))
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, max(0, len(mangled) - 1)))
        mangled[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=6))
    mangled = mangled[: data.draw(st.integers(0, len(mangled)))] if data.draw(st.booleans()) else mangled
    path = tmp_path / "upload"
    path.write_bytes(mangled)
    for call in (
        lambda: readers.image(path).size,
        lambda: readers.clip(path, LIMITS).frames.shape,
        lambda: readers.settings(path),
    ):
        try:
            assert call() is not None
        except ValueError as error:
            assert str(error).endswith((".", "!")) and str(tmp_path) not in str(error), str(error)
