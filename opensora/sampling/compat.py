"""Whether to compute what was meant or to reproduce the public code."""

from typing import Literal

Compat = Literal["right", "published"]
"""``published`` reproduces defects of the public code for comparison; docs/differences.md lists them."""
