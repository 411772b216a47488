"""The process that decodes strangers' files: ``python -m opensora.datasets.confined_worker BYTES``.

It reads one line of JSON after the other from its standard input, decodes the file that each names, and answers on its
standard output with lines of JSON, some of them followed by the bytes of a picture. It may not use more than so many
bytes of memory beyond what it starts with, and write no file. :mod:`opensora.datasets.confined` starts it, and kills it
when it takes too long.
"""

import json
import os
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from opensora.datasets.clip_limits import ClipLimits
from opensora.datasets.image_io import load_image
from opensora.datasets.sniff import shown_name
from opensora.datasets.video_io import read_metadata, reading
from opensora.sentences import pack, say

REFUSED, FAILED, DONE, PICTURE = "refused", "failed", "done", "picture"
"""What a line of the answer is about."""


def confine(memory: int) -> None:
    """Bound what this process can take, where the system can: Windows cannot, there the parent watches."""
    try:
        import resource
    except ImportError:
        return
    for kind, most in (
        (resource.RLIMIT_AS, _mapped() + memory),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        try:
            hard = resource.getrlimit(kind)[1]
            resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
        except (OSError, ValueError):  # macOS refuses the first
            continue


def answer(order: dict[str, Any], data: bytes | None, out: IO[bytes]) -> None:
    """Do one order.

    Args:
        order: ``kind`` is ``image``, ``clip`` or ``settings``; ``path`` names the file; ``limits`` are those of a clip.
        data: what is in the file, where it has no path.
    """
    source = Path(order["path"]) if data is None else data
    name = shown_name(source) if isinstance(source, Path) else say("the.file")
    try:
        if order["kind"] == "image":
            _send(out, np.asarray(load_image(source)))
            _say(out, DONE, {})
        elif order["kind"] == "clip":
            assert isinstance(source, Path), "clips are read from files"
            with reading(source, ClipLimits(**order["limits"])) as (fps, frames):
                for frame in frames:
                    _send(out, frame)
            _say(out, DONE, {"fps": fps})
        else:
            _say(out, DONE, {"settings": read_metadata(source)})
    except ValueError as error:
        _say(out, REFUSED, pack(str(error)))
    except MemoryError:
        _say(out, REFUSED, pack(say("reader.room", file=name)))
    except Exception as error:  # whatever a decoder raises must not end in a silent death
        _say(out, FAILED, type(error).__name__)


def main() -> None:
    """Answer until the standard input is closed."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    confine(int(sys.argv[1]))
    _say(out, DONE, {})
    for line in sys.stdin.buffer:
        order = json.loads(line)
        answer(order, sys.stdin.buffer.read(order["bytes"]) if "bytes" in order else None, out)


def _say(out: IO[bytes], about: str, value: Any) -> None:
    out.write(json.dumps({about: value}).encode() + b"\n")
    out.flush()


def _send(out: IO[bytes], picture: np.ndarray) -> None:
    out.write(json.dumps({PICTURE: picture.shape}).encode() + b"\n")
    out.write(np.ascontiguousarray(picture).data)


def _mapped() -> int:
    """Bytes of address space that this process has already."""
    import psutil

    return int(psutil.Process().memory_info().vms)


if __name__ == "__main__":
    main()
