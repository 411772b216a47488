"""Whether this machine's processor is faster in bfloat16 than in float32: measured once, and remembered.

What a processor says it can do is not asked: the instructions have several names, and not every version of torch uses
or tells them all. Measured are the two kinds of work that take the time of a clip, a product of matrices as in the
denoiser and a convolution as in the autoencoder. The answer is kept in the user's cache folder, per processor and
version of torch.
"""

import logging
import time
from functools import lru_cache

import torch
import torch.nn.functional as F

from opensora.pipelines import remembered

log = logging.getLogger(__name__)

FILE = "bf16.json"
"""In the cache folder."""
ROUNDS = 5
"""Measurements of each precision, by turns; the best counts, so that other programs disturb little."""
TOKENS, CHANNELS = 1024, 512
"""Size of the product."""
CLIP = (1, 64, 5, 24, 32)
"""Size of the convolution's input: batch, channels, frames, height, width."""


@lru_cache(maxsize=1)
def processor_prefers_bf16(processor: str) -> bool:
    """Whether bfloat16 takes less time here than float32.

    Args:
        processor: its name, under which the answer is remembered.
    """
    key = f"{processor}, torch {torch.__version__}"
    known = remembered.read(FILE, bool)
    if key not in known:
        fp32, bf16 = measure()
        known[key] = bf16 < fp32
        log.info("bfloat16 takes %.0f %% of float32's time on this processor", 100 * bf16 / fp32)
        remembered.write(FILE, known)
    return known[key]


def measure() -> tuple[float, float]:
    """Seconds of the same work in float32 and in bfloat16; the latter is infinite where torch cannot do it."""
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    with torch.inference_mode():
        for _ in range(ROUNDS):
            for dtype in best:
                try:
                    best[dtype] = min(best[dtype], _work(dtype))
                except RuntimeError:  # no kernel for it
                    best[dtype] = float("inf")
    return best[torch.float32], best[torch.bfloat16]


def _work(dtype: torch.dtype) -> float:
    """Seconds of one product and one convolution."""
    tokens, weight = torch.ones(TOKENS, CHANNELS, dtype=dtype), torch.ones(CHANNELS, CHANNELS, dtype=dtype)
    clip = torch.ones(CLIP, dtype=dtype).to(memory_format=torch.channels_last_3d)
    kernel = torch.ones(CLIP[1], CLIP[1], 3, 3, 3, dtype=dtype).to(memory_format=torch.channels_last_3d)
    start = time.perf_counter()
    F.linear(tokens, weight)
    F.conv3d(clip, kernel)
    return time.perf_counter() - start
