"""Configurations: frozen dataclasses, the files that build them, and dotted overrides from a command line.

A config file is Python and builds one dataclass object named ``config``; it holds values and nothing else.
Every value that comes from outside (an override, a dict, JSON) is checked against the field's annotation;
an unknown key is an error that suggests the nearest one.
"""

import ast
import dataclasses
import difflib
import enum
import importlib.util
import json
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

Config = TypeVar("Config")

_WORDS = {"true": True, "false": False, "none": None, "null": None}


class ConfigError(ValueError):
    """A configuration that cannot be read; the message says what was got, what is expected and where."""


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Any:
    """Build the object named ``config`` of a Python file and apply overrides such as ``model.depth=4``.

    Raises :class:`ConfigError` when there is no such file, when it builds no dataclass object named ``config``,
    when the file itself fails, or when an override names no field or does not fit the field's annotation.
    """
    file = Path(path)
    if not file.is_file():
        raise ConfigError(f"There is no config file {file}.{_suggestion(file.name, _python_files_beside(file))}")
    spec = importlib.util.spec_from_file_location(f"opensora_config_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file} is not a Python file; a config file ends in .py.")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{file} cannot be read: {type(error).__name__}: {error}") from error
    config = getattr(module, "config", None)
    if not _is_config(config):
        raise ConfigError(f"{file} must build one dataclass object named 'config', got {type(config).__name__}.")
    return apply_overrides(config, overrides)


def apply_overrides(config: Config, overrides: Sequence[str]) -> Config:
    """A copy of `config` with ``dotted.key=value`` overrides applied in order.

    Tuples and lists are entered by index (``buckets.0.batch=4``). A value is read by the field's annotation:
    ``none``, ``true``, ``1e-4``, ``1,2,4``, ``(1, 2)`` or plain text. Validation in ``__post_init__`` runs again.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"Got the override {override!r}; expected key=value, for example steps=30.")
        config = _with_override(config, type(config), key.strip().split("."), text.strip(), "")
    return config


def to_dict(config: Any) -> dict[str, Any]:
    """The fields as plain values (dict, list, str, int, float, bool, None), nested dataclasses included."""
    assert _is_config(config), f"{config!r} is not a dataclass object"
    return {field.name: _plain(getattr(config, field.name), field.name) for field in _settable(type(config))}


def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
    """Build `cls` from plain values; the inverse of :func:`to_dict`. Fields that are left out keep their defaults."""
    return _from_mapping(cls, values, "")


def to_json(config: Any) -> str:
    """Readable JSON of :func:`to_dict`."""
    return json.dumps(to_dict(config), indent=2, ensure_ascii=False)


def _is_config(value: object) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _settable(cls: Any) -> list[dataclasses.Field[Any]]:
    return [field for field in dataclasses.fields(cls) if field.init]


def _python_files_beside(file: Path) -> list[str]:
    return sorted(path.name for path in file.parent.glob("*.py")) if file.parent.is_dir() else []


def _suggestion(name: str, known: Sequence[str]) -> str:
    """A sentence with the nearest known name, and all of them when they are few."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    listing = f" Known: {', '.join(known)}." if known and len(known) <= 40 else ""
    return guess + listing


def _unknown(cls: type, name: str, where: str) -> ConfigError:
    known = [field.name for field in _settable(cls)]
    return ConfigError(f"{cls.__name__} has no setting {where + name!r}.{_suggestion(name, known)}")


def _with_override(holder: Any, annotation: Any, keys: list[str], text: str, where: str) -> Any:
    """`holder` with the value at the dotted path `keys` replaced by what `text` says."""
    if not keys:
        return _read(text, annotation, where.rstrip("."))
    key, rest = keys[0], keys[1:]
    if _is_config(holder):
        if key not in {field.name for field in _settable(type(holder))}:
            raise _unknown(type(holder), key, where)
        hint = typing.get_type_hints(type(holder))[key]
        value = _with_override(getattr(holder, key), hint, rest, text, f"{where}{key}.")
        return dataclasses.replace(holder, **{key: value})
    if isinstance(holder, (tuple, list)):
        if not key.isdigit() or int(key) >= len(holder):
            raise ConfigError(f"{where.rstrip('.')} has {len(holder)} entries; got the index {key!r}.")
        items, hint = list(holder), _item_hint(annotation, int(key))
        items[int(key)] = _with_override(items[int(key)], hint, rest, text, f"{where}{key}.")
        return type(holder)(items)
    raise ConfigError(f"{where.rstrip('.')} is {holder!r} and has no setting {key!r} inside.")


def _item_hint(annotation: Any, index: int) -> Any:
    """The annotation of one entry of a tuple or list annotation (optional ones included)."""
    for member in _members(annotation):
        arguments = typing.get_args(member)
        if typing.get_origin(member) is list and arguments:
            return arguments[0]
        if typing.get_origin(member) is tuple and arguments:
            return arguments[0] if arguments[-1] is Ellipsis else arguments[min(index, len(arguments) - 1)]
    return Any


def _members(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _read(text: str, annotation: Any, where: str) -> Any:
    """Read a command-line text by an annotation: as a literal, as plain text, then as a comma-separated list."""
    first_error: ConfigError | None = None
    for reading in _readings(text):
        try:
            return _convert(reading, annotation, where)
        except ConfigError as error:
            first_error = first_error or error
    assert first_error is not None
    raise first_error


def _readings(text: str) -> Iterator[Any]:
    literal = _literal(text)
    if not isinstance(literal, str):
        yield literal
    yield text
    if "," in text:
        yield [_literal(part.strip()) for part in text.split(",") if part.strip()]


def _literal(text: str) -> Any:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _convert(value: Any, annotation: Any, where: str) -> Any:
    """`value` as the annotation wants it, or a :class:`ConfigError`; no lossy conversions."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(value, arguments, where)
    if origin is Literal:
        matches = [choice for choice in arguments if choice == value and type(choice) is type(value)]
        if matches:
            return matches[0]
        raise ConfigError(f"{where}: got {value!r}, expected one of {', '.join(map(repr, arguments))}.")
    if annotation is None or annotation is type(None):
        if value is None:
            return None
    elif origin in (tuple, list) or annotation in (tuple, list):
        if isinstance(value, (tuple, list)):
            return _convert_items(value, origin or annotation, arguments, where)
    elif origin is dict or annotation is dict:
        if isinstance(value, Mapping):
            key_hint, value_hint = arguments or (Any, Any)
            return {_convert(k, key_hint, where): _convert(v, value_hint, f"{where}.{k}") for k, v in value.items()}
    elif isinstance(annotation, type):
        return _convert_scalar(value, annotation, where)
    raise _misfit(value, annotation, where)


def _convert_union(value: Any, members: tuple[Any, ...], where: str) -> Any:
    errors: dict[Any, ConfigError] = {}
    for member in members:
        try:
            return _convert(value, member, where)
        except ConfigError as error:
            errors[member] = error
    known_kinds = [member for member in members if member is not type(None)]
    raise errors[known_kinds[0]] if len(known_kinds) == 1 else _misfit(value, known_kinds, where)


def _convert_items(value: Sequence[Any], kind: type, arguments: tuple[Any, ...], where: str) -> Any:
    if kind is tuple and arguments and arguments[-1] is not Ellipsis:
        if len(value) != len(arguments):
            raise ConfigError(f"{where}: got {len(value)} values {tuple(value)!r}, expected {len(arguments)}.")
        hints: Sequence[Any] = arguments
    else:
        hints = [arguments[0] if arguments else Any] * len(value)
    return kind(_convert(v, hint, f"{where}.{i}") for i, (v, hint) in enumerate(zip(value, hints, strict=True)))


def _convert_scalar(value: Any, kind: type, where: str) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(value, Mapping):
        return _from_mapping(kind, value, f"{where}.")
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if issubclass(kind, Path) and isinstance(value, str):
        return kind(value)
    if issubclass(kind, enum.Enum) and not isinstance(value, kind):
        matches = [member for member in kind if value in (member.name, member.value)]
        if matches:
            return matches[0]
        raise ConfigError(f"{where}: got {value!r}, expected one of {', '.join(repr(m.value) for m in kind)}.")
    if isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    raise _misfit(value, kind, where)


def _misfit(value: Any, expected: Any, where: str) -> ConfigError:
    """The error for a value that is none of the expected annotations (one, or a list of them)."""
    kinds = expected if isinstance(expected, list) else [expected]
    names = [kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "") for kind in kinds]
    return ConfigError(f"{where}: got {value!r}, expected {' or '.join(names)}.")


def _from_mapping(cls: type[Config], values: Mapping[str, Any], where: str) -> Config:
    hints = typing.get_type_hints(cls)
    names = [field.name for field in _settable(cls)]
    for name in values:
        if name not in names:
            raise _unknown(cls, str(name), where)
    required = [
        field.name
        for field in _settable(cls)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"{where}{cls.__name__} needs {', '.join(missing)}.")
    return cls(**{name: _convert(value, hints[name], where + name) for name, value in values.items()})


def _plain(value: Any, where: str) -> Any:
    if _is_config(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item, f"{where}.{i}") for i, item in enumerate(value)]
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    assert value is None or isinstance(value, (str, int, float, bool)), f"{where} holds a {type(value).__name__}"
    return value
