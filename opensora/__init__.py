"""Open-Sora: text to video and image to video on any machine.

``from opensora import generate_video, load_image, build_models``. Importing this package loads no framework,
reads no environment and touches no device; each name below is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from opensora.datasets.image_io import load_image
    from opensora.pipelines.build import build_models
    from opensora.pipelines.video import generate_video

__version__ = "0.1.0"

__all__ = ["__version__", "build_models", "generate_video", "load_image"]

_HOMES = {
    "build_models": "opensora.pipelines.build",
    "generate_video": "opensora.pipelines.video",
    "load_image": "opensora.datasets.image_io",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'opensora' has no attribute {name!r}; it offers {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
