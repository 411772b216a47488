"""Sentences for people that a page can say in any of its languages: a code, values, and the English text.

A :class:`Sentence` is a string, its English text, so whoever shows an error or a note in English does nothing special.
The page looks up the code in the file of its language and fills in the values.
"""

from typing import Any

from opensora.sentences.english import ENGLISH

LARGEST = 20_000
"""Characters of a text that is taken as a value from elsewhere."""
DEEPEST = 8
"""Sentences within sentences that are taken from elsewhere."""


class Sentence(str):
    """An English sentence that knows what it says.

    Attributes:
        code: of the template in :data:`ENGLISH`.
        values: by the names in the template; sentences, texts and numbers.
    """

    code: str
    values: dict[str, Any]

    def __new__(cls, code: str, values: dict[str, Any]) -> "Sentence":
        made = super().__new__(cls, ENGLISH[code].format(**values))
        made.code, made.values = code, values
        return made

    def __str__(self) -> str:
        """The sentence itself, so that ``str(error)`` of an error that was raised with one still knows what it says."""
        return self

    def __getnewargs__(self) -> tuple[str, dict[str, Any]]:  # type: ignore[override]  # a string has one argument
        return self.code, self.values


def say(code: str, /, **values: Any) -> Sentence:
    """The sentence of a code with its values."""
    return Sentence(code, values)


def joined(texts: list[str]) -> str:
    """Sentences one behind the other as one."""
    if not texts:
        return ""
    first, *rest = texts
    return say("and.then", first=first, rest=joined(rest)) if rest else first


def named(field: str) -> str:
    """What people call a field of a request."""
    code = f"field.{field}"
    return Sentence(code, {}) if code in ENGLISH else field.replace("_", " ")


def stage_named(stage: str) -> str:
    """What people call a stage of a generation."""
    code = f"stage.{stage}"
    return Sentence(code, {}) if code in ENGLISH else stage


def pack(text: str) -> Any:
    """A text as JSON values; see :func:`unpack`."""
    if not isinstance(text, Sentence):
        return str(text)
    return {"code": text.code, "values": {k: pack(v) if isinstance(v, str) else v for k, v in text.values.items()}}


def unpack(told: Any, otherwise: str, deep: int = 0) -> str:
    """The text that was packed, which may have been changed on its way.

    Args:
        otherwise: the text where there is none that can be understood.
    """
    if isinstance(told, str) and len(told) <= LARGEST:
        return told
    code, values = (told.get("code"), told.get("values")) if isinstance(told, dict) else (None, None)
    if deep > DEEPEST or not isinstance(code, str) or code not in ENGLISH or not isinstance(values, dict):
        return otherwise
    plain = {k: v if isinstance(v, int | float) else unpack(v, "", deep + 1) for k, v in values.items()}
    try:
        return Sentence(code, plain)
    except (KeyError, IndexError, ValueError, TypeError):
        return otherwise
