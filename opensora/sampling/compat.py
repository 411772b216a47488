"""Whether to compute what was meant or to reproduce the public code; networks and sampling mean the same by it."""

from opensora.nn.compat import Compat

__all__ = ["Compat"]
