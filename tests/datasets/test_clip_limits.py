"""Clips are held against their limits by their headers, before a frame is decoded, and again while they are."""

from pathlib import Path

import av
import numpy as np
import pytest
from upload_files import boxes, gif_of_size, mp4_of_size, png_clip, refers_to, small_mp4

from opensora.datasets.clip_limits import ClipLimits
from opensora.datasets.video_io import reading

LIMITS = ClipLimits(bytes=2**20, frame_pixels=10_000, pixels=100_000, frames=20, seconds=10)


def refused(path: Path, data: bytes, limits: ClipLimits = LIMITS) -> str:
    path.write_bytes(data)
    with pytest.raises(ValueError) as caught, reading(path, limits) as (_, frames):
        for _ in frames:
            pass
    assert str(caught.value).startswith(path.name) and str(caught.value).endswith(".")
    return str(caught.value)


@pytest.fixture
def nothing_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(*arguments: object) -> None:
        raise AssertionError("a frame was decoded")

    monkeypatch.setattr("opensora.datasets.video_io._decoded", decode)


@pytest.mark.usefixtures("nothing_decoded")
def test_headers_alone_refuse_what_is_too_large_or_too_long(tmp_path: Path) -> None:
    many = small_mp4(tmp_path / "many", 21, 16, 16)
    assert "more than 20 frames" in refused(tmp_path / "many.mp4", many)
    long = small_mp4(tmp_path / "long", 9, 16, 16, fps=0.5)
    assert "longer than 10 seconds" in refused(tmp_path / "long.mp4", long)
    wide = small_mp4(tmp_path / "wide", 9, 102, 100)
    assert "100 x 102" in refused(tmp_path / "wide.mp4", wide) or "102 x 100" in refused(tmp_path / "wide.mp4", wide)
    much = small_mp4(tmp_path / "much", 19, 80, 80)
    assert "too long or too large" in refused(tmp_path / "much.mp4", much)
    whole = small_mp4(tmp_path / "whole")
    assert "cut short" in refused(tmp_path / "cut.mp4", whole[: -len(whole) // 4])
    assert "65535 x 65535" in refused(tmp_path / "bomb.gif", gif_of_size(65535, 65535))


def test_a_file_that_is_too_large_is_not_opened(tmp_path: Path) -> None:
    with (tmp_path / "large.mp4").open("wb") as file:
        file.write(small_mp4(tmp_path / "small")[:64])
        file.truncate(2**20 + 1)
    with pytest.raises(ValueError, match=r"large\.mp4 is larger than 1 MB"), reading(tmp_path / "large.mp4", LIMITS):
        pass


def test_a_gif_that_never_ends_ends(tmp_path: Path) -> None:
    (tmp_path / "loop.gif").write_bytes(gif_of_size(40, 30, frames=5, loop=0))
    with reading(tmp_path / "loop.gif", LIMITS) as (_, frames):
        assert len(list(frames)) == 5
    assert "more than 20 frames" in refused(tmp_path / "long.gif", gif_of_size(40, 30, frames=5000, loop=0))


def test_boxes_that_lie_about_the_size_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "lie.mp4").write_bytes(mp4_of_size(tmp_path / "true.mp4", 60_000, 60_000))
    with reading(tmp_path / "lie.mp4", ClipLimits()) as (_, frames):
        assert {frame.shape for frame in frames} == {(32, 48, 3)}


def test_frames_that_are_larger_than_the_headers_said_are_refused(tmp_path: Path) -> None:
    data = bytearray(png_clip(tmp_path / "large", 300, 200, 2))
    entry = data.index(b"png ", data.index(b"stsd")) + 4
    data[entry + 24 : entry + 28] = b"\0\x10\0\x10"
    assert "300 x 200" in refused(tmp_path / "lie.mov", bytes(data)) or "damaged" in refused(
        tmp_path / "lie.mov", bytes(data)
    )


def test_a_clip_that_changes_its_size_in_the_middle_is_a_sentence(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "two.mkv"), "w") as out:
        stream = out.add_stream("mjpeg", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for at, size in enumerate(((64, 48), (64, 48), (32, 32))):
            encoder = av.CodecContext.create("mjpeg", "w")
            encoder.width, encoder.height = size
            encoder.pix_fmt, encoder.time_base = "yuvj420p", stream.time_base or 1
            frame = av.VideoFrame.from_ndarray(np.zeros((size[1], size[0], 3), np.uint8)).reformat(format="yuvj420p")
            frame.pts = at
            for packet in [*encoder.encode(frame), *encoder.encode()]:
                packet.stream, packet.pts, packet.dts = stream, at, at
                out.mux(packet)
    assert "changes its size" in refused(tmp_path / "two.mkv", (tmp_path / "two.mkv").read_bytes())


def test_boxes_in_boxes_in_boxes_are_refused(tmp_path: Path) -> None:
    assert "damaged" in refused(tmp_path / "deep.mp4", boxes(20_000))


def test_other_files_that_a_clip_names_are_not_opened(tmp_path: Path) -> None:
    """FFmpeg by itself would follow the reference; that shows that the attack is a real one."""
    data = refers_to(small_mp4(tmp_path / "secret.mp4"), "secret.mp4")
    (tmp_path / "refers.mp4").write_bytes(data)
    with av.open(str(tmp_path / "refers.mp4"), options={"enable_drefs": "1"}) as followed:
        assert len(list(followed.decode(video=0))) == 9
    assert "no pictures" in refused(tmp_path / "refers.mp4", data)


@pytest.mark.parametrize("change", [{"frames": 0}, {"seconds": float("nan")}, {"bytes": float("inf")}])
def test_limits_that_are_none_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected a number above 0"):
        ClipLimits(**change)  # type: ignore[arg-type]
