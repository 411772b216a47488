"""Configurations: reading values by annotation, overrides, round trips, and every config file we ship."""

import dataclasses
import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from opensora.config import (
    ConfigError,
    apply_overrides,
    from_dict,
    load_config,
    to_dict,
    to_json,
)
from opensora.models.stdit.stdit3 import STDiT3, STDiT3Config
from opensora.models.vae_v13.vae import OpenSoraVAE_V1_3, VAEv13Config
from opensora.models.zoo import PRESETS

ROOT = Path(__file__).parents[1]
SHIPPED = sorted(path.relative_to(ROOT) for path in (ROOT / "configs").rglob("*.py"))
NETWORKS = {STDiT3Config: STDiT3, VAEv13Config: OpenSoraVAE_V1_3}
PUBLISHED = [
    pytest.param(component, id=f"{preset.name}:{component.role}")
    for preset in PRESETS.values()
    for component in preset.components
    if preset.family == "1.3" and not preset.bundled and component.role != "text"
]


class Shade(enum.Enum):
    """Two shades."""

    LIGHT = "light"
    DARK = "dark"


@dataclass(frozen=True)
class Inner:
    """A nested configuration."""

    depth: int = 2
    """Blocks."""
    rate: float = 0.5
    """Steps
    a second."""

    def __post_init__(self) -> None:
        if self.depth < 1:
            raise ValueError(f"depth must be at least 1, got {self.depth}.")


@dataclass(frozen=True)
class Outer:
    """Everything the reader knows."""

    name: str
    inner: Inner = Inner()
    many: tuple[Inner, ...] = (Inner(), Inner(3))
    size: tuple[int, int] = (4, 8)
    limit: int | None = None
    label: str | None = None
    kind: Literal["a", "b"] = "a"
    on: bool = False
    where: Path = Path("x")
    shade: Shade = Shade.LIGHT
    extra: dict[str, float] = dataclasses.field(default_factory=dict)
    either: int | str = 0


BASE = Outer("base")


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("name=5", {"name": "5"}),
        ("name=none", {"name": "none"}),
        ("label=none", {"label": None}),
        ("label=a=b", {"label": "a=b"}),
        ("inner.depth=7", {"inner": Inner(7)}),
        ("inner.rate=1", {"inner": Inner(rate=1.0)}),
        ("inner.rate=1e-4", {"inner": Inner(rate=1e-4)}),
        ("many.1.depth=9", {"many": (Inner(), Inner(9))}),
        ('many=[{"depth": 5}]', {"many": (Inner(5),)}),
        ("size=16,32", {"size": (16, 32)}),
        ("size=(16, 32)", {"size": (16, 32)}),
        ("size.0=1", {"size": (1, 8)}),
        ("limit=3", {"limit": 3}),
        ("kind=b", {"kind": "b"}),
        ("on=True", {"on": True}),
        ("on=false", {"on": False}),
        ("where=a/b", {"where": Path("a/b")}),
        ("shade=dark", {"shade": Shade.DARK}),
        ('extra={"x": 1}', {"extra": {"x": 1.0}}),
        ("either=7", {"either": 7}),
        ("either=seven", {"either": "seven"}),
    ],
)
def test_overrides_are_read_by_the_annotation(override: str, changed: dict[str, object]) -> None:
    assert apply_overrides(BASE, [override]) == dataclasses.replace(BASE, **changed)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("nmae=x", "Did you mean 'name'"),
        ("inner.dept=1", "Inner has no setting 'inner.dept'.*Did you mean 'depth'"),
        ("name.first=x", "has no setting 'first' inside"),
        ("inner.depth=1.5", "inner.depth: got 1.5, expected int"),
        ("inner.depth=true", "expected int"),
        ("inner.rate=fast", "inner.rate: got 'fast', expected float"),
        ("size=1,2,3", "got 3 values .*expected 2"),
        ("many.4.depth=1", "many has 2 entries"),
        ("kind=c", "expected one of 'a', 'b'"),
        ("shade=grey", "expected one of 'light', 'dark'"),
        ("limit=some", "limit: got 'some', expected int"),
        ("on=2", "expected bool"),
        ("inner.depth=0", "depth must be at least 1"),
        ("steps", "expected key=value"),
        ("=3", "expected key=value"),
    ],
)
def test_a_wrong_override_says_what_is_expected(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        apply_overrides(BASE, [override])


def test_later_overrides_win_and_the_original_is_untouched() -> None:
    assert apply_overrides(BASE, ["inner.depth=3", "inner.depth=4"]).inner.depth == 4
    assert BASE.inner.depth == 2


@given(
    st.builds(
        Outer,
        name=st.text(),
        inner=st.builds(Inner, depth=st.integers(1, 9), rate=st.floats(allow_nan=False)),
        limit=st.none() | st.integers(),
        label=st.none() | st.text(),
        shade=st.sampled_from(Shade),
        extra=st.dictionaries(st.text(), st.floats(allow_nan=False)),
    )
)
def test_dict_and_json_round_trips(config: Outer) -> None:
    assert from_dict(Outer, to_dict(config)) == config
    assert from_dict(Outer, json.loads(to_json(config))) == config


def test_a_dict_with_missing_or_unknown_keys_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs name"):
        from_dict(Outer, {})
    with pytest.raises(ConfigError, match=r"'inner.dpeth'.*Did you mean 'depth'"):
        from_dict(Outer, {"name": "x", "inner": {"dpeth": 1}})


def test_a_file_is_loaded_and_overridden(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text("from dataclasses import make_dataclass\nconfig = make_dataclass('C', [('steps', int, 3)])()\n")
    assert load_config(file, ["steps=5"]).steps == 5


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text("values = 3\n")
    with pytest.raises(ConfigError, match=r"no config file .*tinny.py.*Did you mean 'tiny.py'"):
        load_config(tmp_path / "tinny.py")
    with pytest.raises(ConfigError, match="must build one dataclass object named 'config'"):
        load_config(tmp_path / "tiny.py")


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_every_shipped_config_loads_and_survives_json(path: Path) -> None:
    config = load_config(ROOT / path)
    assert from_dict(type(config), json.loads(to_json(config))) == config


def networks_in(config: object) -> Iterator[object]:
    """Every network configuration inside a configuration."""
    if type(config) in NETWORKS:
        yield config
    for field in dataclasses.fields(config):
        values = getattr(config, field.name)
        for value in values if isinstance(values, tuple) else (values,):
            if dataclasses.is_dataclass(value):
                yield from networks_in(value)


@pytest.mark.parametrize("path", SHIPPED, ids=str)
def test_networks_of_every_shipped_config_build_on_the_meta_device(path: Path) -> None:
    for config in networks_in(load_config(ROOT / path)):
        with torch.device("meta"):
            network = NETWORKS[type(config)](config)
        assert all(value.is_meta for value in network.parameters())


@pytest.mark.parametrize("component", PUBLISHED)
def test_published_networks_have_the_size_that_the_table_says(component) -> None:
    config = {"stdit": STDiT3Config, "vae": VAEv13Config}[component.role](**component.config)
    with torch.device("meta"):
        network = NETWORKS[type(config)](config)
    assert sum(value.numel() for value in network.state_dict().values()) == component.parameters


@pytest.mark.parametrize("text", ["config = (", "raise SystemExit", "import no_such_package", "config = 1 / 0"])
def test_a_config_file_that_fails_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.py"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"broken\.py cannot be read: "):
        load_config(file)
