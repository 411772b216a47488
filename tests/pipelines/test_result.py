"""Files of a result: what is in them, what they are called, and what is said when they cannot be written."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from opensora.datasets import video_io
from opensora.datasets.video_io import read_metadata, read_video
from opensora.pipelines import result as results
from opensora.pipelines.result import GenerationError, GenerationResult, SaveError, check_destination


def finished(frames: int = 3, videos: int = 1) -> GenerationResult:
    generator = np.random.default_rng(0)
    return GenerationResult(
        videos=[generator.integers(0, 255, (frames, 32, 48, 3), np.uint8) for _ in range(videos)],
        fps=24.0,
        seeds=list(range(5, 5 + videos)),
        settings={"prompt": "빨간 공 “ü”", "seed": 5, "num_videos": videos, "steps": 3},
        plan={"device": "cpu", "weights": {"vae": "0" * 64}},
        timings={"sampling": 1.5},
    )


def test_the_file_tells_how_it_was_made(tmp_path: Path) -> None:
    result = finished(videos=2)
    first, second = result.save(tmp_path / "new" / "clip.mp4")
    assert [first.name, second.name] == ["clip-1.mp4", "clip-2.mp4"]
    told = read_metadata(second)
    assert told == result.metadata(6)
    assert told["settings"] == {"prompt": "빨간 공 “ü”", "seed": 6, "num_videos": 1, "steps": 3}
    assert told["plan"] == result.plan and told["program"].startswith("opensora ")
    clip = read_video(first)
    assert (clip.frames.shape, clip.fps) == ((3, 32, 48, 3), 24.0)


def test_one_frame_is_a_png_without_loss(tmp_path: Path) -> None:
    result = finished(frames=1)
    (file,) = result.save(tmp_path / "still")
    assert file == tmp_path / "still.png"
    assert np.array_equal(np.asarray(results_image(file)), result.frames[0])
    assert read_metadata(file) == result.metadata(5)


def results_image(file: Path) -> object:
    from opensora.datasets.image_io import load_image

    return load_image(file)


@pytest.mark.parametrize(
    ("name", "frames", "written"),
    [
        ("clip", 3, "clip.mp4"),
        ("clip.mp4", 3, "clip.mp4"),
        ("clip.MP4", 3, "clip.mp4"),
        ("a.b", 3, "a.b.mp4"),
        ("v1.3", 3, "v1.3.mp4"),
        (".hidden", 3, ".hidden.mp4"),
        ("still.png", 1, "still.png"),
        ("still.tar.gz", 1, "still.tar.gz.png"),
    ],
)
def test_a_missing_suffix_is_added(tmp_path: Path, name: str, frames: int, written: str) -> None:
    check_destination(tmp_path / name, still=frames == 1)
    assert finished(frames).save(tmp_path / name) == [tmp_path / written]
    assert [path.name for path in tmp_path.iterdir()] == [written]


@pytest.mark.parametrize(
    ("name", "frames", "words"),
    [
        ("clip.png", 3, r"clip\.png for a clip, which is written as MP4; end the name in \.mp4"),
        ("clip.gif", 3, "written as MP4"),
        ("still.mp4", 1, "one frame, which is written as PNG"),
        ("still.jpg", 1, "written as PNG"),
    ],
)
def test_another_format_is_refused_before_and_after(tmp_path: Path, name: str, frames: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_destination(tmp_path / name, still=frames == 1)
    with pytest.raises(ValueError, match=words):
        finished(frames).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_path_without_a_name_is_refused() -> None:
    for path in ("", "/", "."):
        with pytest.raises(ValueError, match="no file name"):
            finished().save(path)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "the disk is read-only"),
        (errno.EACCES, "writing there is not allowed"),
        (errno.EDQUOT, "your share of the disk is full"),
        (errno.EIO, "input/output error"),
    ],
)
@pytest.mark.parametrize("frames", [1, 3])
def test_a_disk_that_refuses_is_a_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str, frames: int
) -> None:
    monkeypatch.chdir(tmp_path)
    before = finished(frames).save("out/clip")[0].read_bytes()

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number), str(tmp_path / "out" / "secret"))

    monkeypatch.setattr(video_io.os, "replace", refuse)
    with pytest.raises(SaveError, match=rf"^Cannot write out/clip: {words}.*\.$") as caught:
        finished(frames).save("out/clip")
    assert str(tmp_path) not in str(caught.value)
    assert isinstance(caught.value, GenerationError) and caught.value.stage == "saving"
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [before]


def test_a_file_in_the_place_of_a_folder_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.mp4").mkdir()
    for path, words in (("file/clip", "is a file, not a folder"), ("folder", "there is a folder of that name")):
        with pytest.raises(SaveError, match=words):
            check_destination(tmp_path / path, still=False)
        with pytest.raises(SaveError, match=words):
            finished().save(tmp_path / path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.mp4"]
    assert (tmp_path / "file").read_text() == "mine"


def test_a_name_that_is_too_long_is_said(tmp_path: Path) -> None:
    for length in (240, 300):
        with pytest.raises(SaveError, match="the name is too long"):
            finished().save(tmp_path / ("x" * length))
        with pytest.raises(SaveError, match="the name is too long"):
            check_destination(tmp_path / ("x" * length), still=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "words"), [("~nobody-here/clip", "nobody of that name"), ("a\0b", "no file can have")]
)
def test_a_path_that_cannot_be_is_refused(path: str, words: str) -> None:
    for write in (finished().save, lambda path: check_destination(path, still=False)):
        with pytest.raises(ValueError, match=words):
            write(path)


def test_checking_a_place_leaves_nothing_there(tmp_path: Path) -> None:
    check_destination(tmp_path / "a" / "b" / "clip", still=False)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_known_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(SaveError, match="the disk is read-only"):
        check_destination(tmp_path / "clip", still=False)


def test_the_encoder_breaking_off_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def full(picture: np.ndarray) -> np.ndarray:
        calls.append(1)
        if len(calls) > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return video_io.np.zeros((48, 48), np.uint8)

    monkeypatch.setattr(video_io, "to_yuv420", full)
    with pytest.raises(SaveError, match="the disk is full"):
        finished().save(tmp_path / "clip")
    assert list(tmp_path.iterdir()) == []


def test_reasons_end_with_what_to_do() -> None:
    assert all(". " in reason for reason in results._REASONS.values())
