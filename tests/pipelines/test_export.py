"""A clip in other forms: every frame and its time is still there, the colours too, and a GIF is small."""

import json
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from opensora.datasets.video_io import read_video, write_mp4
from opensora.pipelines import export as module
from opensora.pipelines.export import beside, export
from opensora.pipelines.reproduce import read_settings

RECORD = {"program": "opensora 0", "settings": {"prompt": "빨간 공", "width": 96, "height": 64}, "plan": {}}


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of a red square that crosses a green field."""
    frames = np.full((24, 64, 96, 3), (40, 150, 60), np.uint8)
    for index, frame in enumerate(frames):
        frame[20:44, 3 * index : 3 * index + 24] = (220, 40, 30)
    file = tmp_path_factory.mktemp("clips") / "clip.mp4"
    write_mp4(file, frames, 24, RECORD)
    return file


def test_a_gif_is_small_loops_and_keeps_its_time(clip: Path, tmp_path: Path) -> None:
    file = export(clip, "gif", tmp_path / "clip.gif")
    with Image.open(file) as image:
        assert (image.format, image.size, image.n_frames, image.info["loop"]) == ("GIF", (96, 64), 12, 0)
        milliseconds = 0
        for index in range(image.n_frames):
            image.seek(index)
            milliseconds += image.info["duration"]
        assert milliseconds == pytest.approx(1000, abs=20)
    frames, original = read_video(file).frames, read_video(clip).frames[::2]
    assert np.abs(frames.astype(int) - original).mean() < 6
    assert file.stat().st_size < 25_000


def test_a_large_clip_becomes_a_smaller_gif(tmp_path: Path) -> None:
    write_mp4(tmp_path / "wide.mp4", np.full((3, 100, 960, 3), 90, np.uint8), 10, {})
    with Image.open(export(tmp_path / "wide.mp4", "gif")) as image:
        assert (image.size, image.n_frames) == ((480, 50), 3)


def test_a_webm_is_vp9_with_the_settings_inside(clip: Path, tmp_path: Path) -> None:
    file = export(clip, "webm", tmp_path / "clip.webm")
    with av.open(str(file)) as container:
        assert container.streams.video[0].codec_context.name == "vp9"
    found, original = read_video(file), read_video(clip)
    assert found.fps == 24 and found.frames.shape == original.frames.shape
    assert np.abs(found.frames.astype(int) - original.frames).mean() < 3
    assert read_settings(file).request.prompt == "빨간 공"


def test_a_zip_has_every_frame_without_loss(clip: Path, tmp_path: Path) -> None:
    file = export(clip, "zip", tmp_path / "frames.zip")
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
        assert names[:2] == ["frame-0001.png", "frame-0002.png"] and len(names) == 25
        with archive.open("frame-0024.png") as last:
            assert np.array_equal(np.asarray(Image.open(last)), read_video(clip).frames[23])
        told = json.loads(archive.read("settings.json"))
    assert (told["fps"], told["settings"]["prompt"]) == (24, "빨간 공")
    assert file.read_bytes() == export(clip, "zip", tmp_path / "again.zip").read_bytes()


def test_what_cannot_be_exported_is_said_and_nothing_is_left(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no clip")
    Image.new("RGB", (8, 8)).save(tmp_path / "still.png")
    for source, kind, target, words in (
        (clip, "avi", None, "choose one of gif, webm, zip"),
        (clip, "gif", tmp_path / "a.webm", r"end it in \.gif"),
        (tmp_path / "text.mp4", "gif", None, "no clip that can be read"),
        (tmp_path / "nowhere.mp4", "zip", None, "no file 'nowhere.mp4'"),
        (tmp_path / "still.png", "gif", None, "is a picture"),
    ):
        with pytest.raises(ValueError, match=words):
            export(source, kind, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["still.png", "text.mp4"]


def test_a_form_beside_a_clip_is_made_once_and_goes_with_a_clip_that_is_deleted_meanwhile(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    own = folder / "video.mp4"
    own.write_bytes(clip.read_bytes())
    file = beside(own, "gif")
    assert file == folder / "video.gif" and file.read_bytes() == export(clip, "gif", tmp_path / "a.gif").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "export", lambda *_: pytest.fail("made again"))
        assert beside(own, "gif") == file
    file.unlink()

    def late(source: Path, kind: str, target: Path) -> Path:
        own.unlink()
        target.write_bytes(b"late")
        return target

    monkeypatch.setattr(module, "export", late)
    with pytest.raises(ValueError, match="was deleted"):
        beside(own, "gif")
    assert not folder.exists()
