"""How the engine stores values: JSON. Its default is pickle, with which a changed database could run code here."""

import json
from typing import Any

from dbos import Serializer


class JsonSerializer(Serializer):
    """JSON, and for errors their text."""

    def serialize(self, data: Any) -> str:
        """Values -> text."""
        return json.dumps(data, default=_plain)

    def deserialize(cls, serialized_data: str) -> Any:
        """Text -> values; tuples come back as lists and errors as RuntimeError."""
        value = json.loads(serialized_data)
        if isinstance(value, dict) and value.keys() == {"error of the engine"}:
            return RuntimeError(value["error of the engine"])
        return value

    def name(self) -> str:
        """What the database calls it."""
        return "opensora_json"


def _plain(value: Any) -> Any:
    if isinstance(value, BaseException):
        return {"error of the engine": f"{type(value).__name__}: {value}"}
    raise TypeError(f"a job can only keep JSON values, got {type(value).__name__}")
