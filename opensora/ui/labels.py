"""Components whose words follow the language."""

from collections.abc import Callable
from typing import Any, TypeVar

from opensora.sentences import Sentence
from opensora.ui.words import ENGLISH, Words

Made = TypeVar("Made")


class Labels:
    """Makes components in English and remembers which of their properties are words."""

    def __init__(self) -> None:
        self._known: list[tuple[Any, dict[str, str]]] = []

    def make(self, kind: Callable[..., Made], keys: dict[str, str], **options: Any) -> Made:
        """A component.

        Args:
            kind: its class, or what makes it.
            keys: key of the text of each property, such as ``{"label": "prompt"}``, or a sentence.
            options: properties that are the same in every language.
        """
        return self.remember(kind(**{name: _text(ENGLISH, key) for name, key in keys.items()}, **options), keys)

    def remember(self, component: Made, keys: dict[str, str]) -> Made:
        """Let a component that was made already follow the language."""
        self._known.append((component, keys))
        return component

    @property
    def components(self) -> list[Any]:
        """What :meth:`updates` are for."""
        return [component for component, _ in self._known]

    def updates(self, w: Words | None, more: dict[Any, dict[str, Any]]) -> list[dict[str, Any]]:
        """The words of a language, or no new words.

        Args:
            more: other properties that change, by component.
        """
        others = {id(component): properties for component, properties in more.items()}
        return [
            {
                "__type__": "update",
                **({} if w is None else {name: _text(w, key) for name, key in keys.items()}),
                **others.get(id(component), {}),
            }
            for component, keys in self._known
        ]


def _text(w: Words, key: str) -> str:
    return w.tell(key) if isinstance(key, Sentence) else w(key)
