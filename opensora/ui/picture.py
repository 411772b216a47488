"""The image that a clip starts from: taken from the browser as it is, and shown with the part that will be used."""

import base64
import io
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

THUMBNAIL = 360
"""Longer side of the picture that shows the crop, in pixels."""
SHADE = 0.28
"""Brightness of what is cut off."""


def _handing_over(kind: Any, read: Callable[[Any, Any], str | None]) -> Any:
    """A component class whose values reach handlers through ``read`` (the component, gradio's value).

    A class, not a changed object: gradio makes components anew when their labels or places change. It keeps the name,
    by which the browser finds its side, and passes over what gradio does to classes written in files, beside which it
    would write stub files.
    """
    meta = type(kind)
    return super(meta, meta).__new__(meta, kind.__name__, (kind,), {"preprocess": read, "__module__": __name__})


def reference_input(**options: Any) -> gr.Image:
    """Gradio's image input, handing over the uploaded file untouched.

    Gradio itself would decode the file first: 16-bit pictures would lose their greys, and a damaged one would end in an
    error that says nothing. :func:`opensora.datasets.image_io.load_image` reads it instead.
    """
    component: gr.Image = _UntouchedImage(type="filepath", sources=["upload"], buttons=[], **options)
    return component


def clip_input(**options: Any) -> gr.Video:
    """Gradio's video input, handing over the uploaded file untouched; :func:`opensora.datasets.video_io.read_video`
    reads it."""
    component: gr.Video = _UntouchedVideo(sources=["upload"], buttons=[], **options)
    return component


def slider_input(**options: Any) -> gr.Slider:
    """Gradio's slider, handing over any value that it was given.

    A file may hold every value that programs and the command line have. Gradio would end every event of the page at one
    beyond the slider's ends, before :class:`opensora.pipelines.request.GenerationRequest` can say what is wrong.
    """
    component: gr.Slider = _UncheckedSlider(**options)
    return component


def dropdown_input(**options: Any) -> gr.Dropdown:
    """As :func:`slider_input` for choices: also those that were offered before the server began anew."""
    component: gr.Dropdown = _UncheckedDropdown(**options)
    return component


def clip_file(frames: np.ndarray) -> str:
    """A clip, uint8 (T, H, W, 3), as a file among gradio's own uploads."""
    from opensora.datasets.video_io import write_mp4

    folder = Path(tempfile.mkdtemp(dir=os.environ.get("GRADIO_TEMP_DIR")))
    write_mp4(folder / "clip.mp4", frames, 24, {})
    return str(folder / "clip.mp4")


def _path_of(_: Any, payload: Any) -> str | None:
    """Where gradio put an uploaded file."""
    return None if payload is None else getattr(payload, "video", payload).path


_UntouchedImage = _handing_over(gr.Image, _path_of)
_UntouchedVideo = _handing_over(gr.Video, _path_of)
_UncheckedSlider = _handing_over(gr.Slider, lambda _, payload: payload)
_UncheckedDropdown = _handing_over(gr.Dropdown, lambda _, payload: payload)


def crop_box(size: tuple[int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """The part (left, top, right, bottom) of a picture of ``size`` that covers ``width`` x ``height``."""
    scale = max(width / size[0], height / size[1])
    w, h = min(size[0], round(width / scale)), min(size[1], round(height / scale))
    left, top = (size[0] - w) // 2, (size[1] - h) // 2
    return left, top, left + w, top + h


def shaded(image: Image.Image, width: int, height: int) -> Image.Image:
    """A small copy of an RGB picture in which everything outside the crop is dark."""
    small = image.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    left, top, right, bottom = crop_box(small.size, width, height)
    pixels = np.asarray(small).astype(np.float32)
    dark = pixels * SHADE
    dark[top:bottom, left:right] = pixels[top:bottom, left:right]
    return Image.fromarray(dark.round().astype(np.uint8))


def data_uri(image: Image.Image) -> str:
    """A picture as a WebP data address."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=85, method=0)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def animation_uri(frames: np.ndarray, height: int = 144) -> str:
    """Forming frames, uint8 (T, H, W, 3) or (H, W, 3), as an animated WebP data address, enlarged softly."""
    frames = frames[None] if frames.ndim == 3 else frames
    scale = min(6.0, height / frames.shape[1])
    size = round(frames.shape[2] * scale), round(frames.shape[1] * scale)
    pictures = [Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "WEBP", quality=60, method=0, save_all=True, append_images=pictures[1:], duration=150, loop=0
    )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def poster(path: Path) -> bytes:
    """The first frame of an MP4 or PNG file as JPEG."""
    from opensora.datasets.video_io import read_video

    if path.suffix == ".png":
        with Image.open(path, formats=["PNG"]) as image:
            picture = image.convert("RGB")
    else:
        picture = Image.fromarray(read_video(path, max_frames=1).frames[0])
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()
