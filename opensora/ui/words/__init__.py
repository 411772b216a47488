"""What the page says, one file for each language: ``TEXTS`` by key, with ``{names}`` to be filled in.

A new language is a file like :mod:`opensora.ui.words.en`, one of the sentences that are made below the page like
:mod:`opensora.ui.words.sentences.ko`, and a line in :data:`LANGUAGES`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from opensora.sentences import Sentence
from opensora.sentences.english import ENGLISH as ENGLISH_SENTENCES
from opensora.ui.words import en, ko
from opensora.ui.words.sentences import ko as ko_sentences


@dataclass(frozen=True)
class Words:
    """The texts of a language."""

    code: str
    """As browsers name it."""
    name: str
    """In the language itself."""
    texts: Mapping[str, str]
    """By key."""
    sentences: Mapping[str, str]
    """Of :mod:`opensora.sentences`, by code."""

    def __call__(self, key: str, **values: object) -> str:
        """A text with its names filled in."""
        text = self.texts[key]
        return text.format(**values) if values else text

    def tell(self, text: str) -> str:
        """A sentence that was made below the page, in this language; every other text as it is."""
        if not isinstance(text, Sentence):
            return text
        values = {name: self.tell(value) if isinstance(value, str) else value for name, value in text.values.items()}
        return self.sentences[text.code].format(**values)


LANGUAGES: dict[str, Words] = {
    "en": Words("en", "English", en.TEXTS, ENGLISH_SENTENCES),
    "ko": Words("ko", "한국어", ko.TEXTS, ko_sentences.SENTENCES),
}
"""By code; the first is the one for everybody else."""
ENGLISH = LANGUAGES["en"]


def preferred(accept: str | None) -> str:
    """The language that a browser likes best of those that there are.

    Args:
        accept: its ``Accept-Language`` header, such as ``ko-KR,ko;q=0.9,en;q=0.8``.
    """
    wishes: list[tuple[float, str]] = []
    for entry in (accept or "").split(","):
        tag, _, weight = entry.strip().partition(";q=")
        try:
            wishes.append((float(weight or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    known = [code for _, code in sorted(wishes, key=lambda wish: -wish[0]) if code in LANGUAGES]
    return known[0] if known else ENGLISH.code


def told(text: str, accept: str | None) -> str:
    """A sentence in the language that a browser likes best.

    Args:
        accept: its ``Accept-Language`` header.
    """
    return LANGUAGES[preferred(accept)].tell(text)


def of(code: object) -> Words:
    """The texts of a language; English for one that there is not."""
    return LANGUAGES.get(code, ENGLISH) if isinstance(code, str) else ENGLISH
