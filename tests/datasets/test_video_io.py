"""Files that are written and read: exact frames, rates and colours, settings inside, nothing else opened."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from opensora.datasets import video_io
from opensora.datasets.video_io import read_metadata, read_video, to_yuv420, write_mp4, write_png

COLOURS = [(220, 30, 30), (30, 200, 40), (30, 50, 220), (240, 220, 20), (255, 255, 255), (0, 0, 0), (128, 128, 128)]


def flat(colour: tuple[int, int, int], frames: int = 3, height: int = 64, width: int = 96) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (frames, height, width, 3)).copy()


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frame i has a bright bar whose height counts i, so that order and number of frames can be read back."""
    clip = np.full((frames, height, width, 3), 40, np.uint8)
    for i in range(frames):
        clip[i, :, : 2 + i] = 230
    return clip


@pytest.mark.parametrize("frames", [1, 2, 17, 49])
@pytest.mark.parametrize("fps", [24, 12.5, 29.97])
def test_frame_count_and_rate_are_exact(tmp_path: Path, frames: int, fps: float) -> None:
    write_mp4(tmp_path / "clip.mp4", moving(frames), fps, {})
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.frames == frames
        assert float(stream.average_rate) == pytest.approx(fps, abs=1e-3)
        assert float(stream.duration * stream.time_base) == pytest.approx(frames / fps, abs=1e-3)
    clip = read_video(tmp_path / "clip.mp4")
    bars = (clip.frames[..., 1].mean(axis=1) > 135).sum(axis=1)
    assert bars.tolist() == [2 + i for i in range(frames)]
    assert clip.fps == pytest.approx(fps, abs=1e-3)


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_survive(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    write_mp4(tmp_path / "clip.mp4", flat(colour), 24, {})
    assert np.abs(read_video(tmp_path / "clip.mp4").frames.astype(int) - np.array(colour)).max() <= 3


def test_the_stream_is_tagged_and_starts_before_it_is_loaded(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", flat((200, 30, 30)), 24, {})
    with av.open(str(tmp_path / "clip.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        tags = (context.color_range, context.colorspace, context.color_primaries, context.color_trc)
        assert [int(tag) for tag in tags] == [1, 6, 1, 1]
    data = (tmp_path / "clip.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_odd_sizes_are_filled_up(tmp_path: Path) -> None:
    clip = flat((200, 30, 30), height=45, width=81)
    write_mp4(tmp_path / "clip.mp4", clip, 24, {})
    read = read_video(tmp_path / "clip.mp4").frames
    assert read.shape == (3, 46, 82, 3)
    assert np.abs(read.astype(int) - (200, 30, 30)).max() <= 3


def test_the_same_frames_give_the_same_bytes(tmp_path: Path) -> None:
    clip = np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), dtype=np.uint8)
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, clip, 24, {"prompt": "x"})
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize("settings", [{"prompt": '빨간 공 = ; \\ " \n é', "seed": 2**62}, {"prompt": "x" * 5000}])
def test_settings_are_inside(tmp_path: Path, settings: dict[str, object]) -> None:
    write_mp4(tmp_path / "clip.mp4", flat((1, 2, 3)), 24, {"settings": settings})
    write_png(tmp_path / "still.png", flat((1, 2, 3))[0], {"settings": settings})
    assert read_metadata(tmp_path / "clip.mp4") == {"settings": settings}
    assert read_metadata(tmp_path / "still.png") == {"settings": settings}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "still.png")), flat((1, 2, 3))[0])


def test_a_file_without_settings_says_so(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "other.png")
    with pytest.raises(ValueError, match=r"other\.png holds no settings"):
        read_metadata(tmp_path / "other.png")


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"old")

    def broken(picture: np.ndarray) -> np.ndarray:
        raise MemoryError

    monkeypatch.setattr(video_io, "to_yuv420", broken)
    with pytest.raises(MemoryError):
        write_mp4(tmp_path / "clip.mp4", flat((1, 2, 3)), 24, {})
    assert [file.name for file in tmp_path.iterdir()] == ["clip.mp4"]
    assert (tmp_path / "clip.mp4").read_bytes() == b"old"


def test_yuv_of_known_colours() -> None:
    def planes(colour: tuple[int, int, int]) -> tuple[int, int, int]:
        yuv = to_yuv420(flat(colour, 1, 4, 4)[0]).ravel()
        return int(yuv[0]), int(yuv[16]), int(yuv[20])

    assert planes((0, 0, 0)) == (16, 128, 128)
    assert planes((255, 255, 255)) == (235, 128, 128)
    assert planes((255, 0, 0)) == (81, 90, 240)
    assert planes((0, 0, 255)) == (41, 240, 110)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("text.mp4", b"ffconcat version 1.0\nfile 'clip.mp4'\n", "no clip that can be read"),
        ("list.m3u8", b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "no clip that can be read"),
        ("cut.mp4", b"\0\0\0\x20ftypisom" + bytes(40), "damaged"),
        ("empty.mp4", b"", "no clip that can be read"),
        ("head.webm", b"\x1a\x45\xdf\xa3" + bytes(64), "damaged"),
    ],
)
def test_what_is_no_clip_is_refused(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    write_mp4(tmp_path / "clip.mp4", flat((1, 2, 3)), 24, {})
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_video(tmp_path / name)


def test_a_clip_that_was_cut_short(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", moving(17), 24, {})
    data = (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: data.index(b"mdat") - 40])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        read_video(tmp_path / "cut.mp4")


def test_gif_and_webm_are_read(tmp_path: Path) -> None:
    pictures = [Image.fromarray(frame) for frame in flat((200, 30, 30))]
    pictures[0].putpixel((0, 0), (0, 0, 0))
    pictures[0].save(tmp_path / "a.gif", save_all=True, append_images=pictures[1:], duration=40)
    assert read_video(tmp_path / "a.gif").frames.shape[1:] == (64, 96, 3)


def test_reading_stops_after_max_frames(tmp_path: Path) -> None:
    write_mp4(tmp_path / "clip.mp4", moving(17), 24, {})
    assert len(read_video(tmp_path / "clip.mp4", max_frames=5).frames) == 5


@pytest.fixture(scope="module")
def chromium() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("google-chrome"), args=["--no-sandbox"]
        )
        yield browser
        browser.close()


READ_FRAME = """async () => {
    const video = document.querySelector("video"), canvas = document.createElement("canvas");
    if (video.readyState < 2) await new Promise((done, fail) => { video.onloadeddata = done; video.onerror = fail; });
    await new Promise((done) => { video.onseeked = done; video.currentTime = 0.06; });
    canvas.width = video.videoWidth; canvas.height = video.videoHeight;
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
    const pixels = [12, 36, 60, 84, 108, 132, 156].map((x) => {
        const at = 4 * (24 * canvas.width + x);
        return [data[at], data[at + 1], data[at + 2]];
    });
    return { pixels, duration: video.duration, width: canvas.width, height: canvas.height };
}"""


@pytest.mark.browser
@pytest.mark.parametrize("scale", [1, 16])
def test_chromium_shows_the_colours_that_were_written(tmp_path: Path, chromium: object, scale: int) -> None:
    """Small and large frames: browsers guess colour matrices from the size where tags are missing."""
    bars = np.concatenate([flat(c, 6, 48, 24) for c in COLOURS], axis=2)
    tall = np.concatenate([bars, flat((90, 90, 90), 6, 48 * (scale - 1), 168)], axis=1) if scale > 1 else bars
    write_mp4(tmp_path / "bars.mp4", tall, 24, {})
    (tmp_path / "page.html").write_text('<video src="bars.mp4" muted></video>')
    context = chromium.new_context()  # type: ignore[attr-defined]
    page = context.new_page()
    page.route("**/*", lambda route: serve(route, tmp_path))
    page.goto("http://clip.test/page.html")
    seen = page.evaluate(READ_FRAME)
    context.close()
    assert (seen["width"], seen["height"]) == (168, 48 * scale)
    assert seen["duration"] == pytest.approx(6 / 24, abs=1e-3)
    assert np.abs(np.array(seen["pixels"]) - np.array(COLOURS)).max() <= 5, seen["pixels"]


def serve(route: object, folder: Path) -> None:
    """Answer the browser's request from a folder: one origin, so that the canvas may be read."""
    name = route.request.url.rsplit("/", 1)[1]  # type: ignore[attr-defined]
    file = folder / name
    if file.is_file():
        kind = "video/mp4" if name.endswith(".mp4") else "text/html"
        route.fulfill(body=file.read_bytes(), content_type=kind)  # type: ignore[attr-defined]
    else:
        route.fulfill(status=404)  # type: ignore[attr-defined]
