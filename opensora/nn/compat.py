"""Which arithmetic a network follows where the published code has a defect."""

from typing import Literal, get_args

Compat = Literal["right", "published"]
"""``right`` computes what was meant; ``published`` reproduces the public code, defects included."""


def check_compat(value: str) -> None:
    """Raise ValueError unless ``value`` is one of the two words."""
    if value not in get_args(Compat):
        raise ValueError(f"compat is {value!r}; choose one of {', '.join(get_args(Compat))}.")
