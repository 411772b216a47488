"""The import layers: imports go down only, and heavy optional packages stay where they belong."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Packages in one row do not import each other.
ROWS = (
    {"opensora.config", "opensora.log", "opensora.sentences"},
    {"opensora.nn", "opensora.checkpoint", "opensora.distributed"},
    {"opensora.models", "opensora.sampling"},
    {"opensora.acceleration", "opensora.datasets"},
    {"opensora.pipelines", "opensora.training"},
    {"opensora.jobs"},
    {"opensora.ui", "opensora.server", "opensora.space", "opensora.commands"},
    {"app", "scripts", "benchmarks", "opensora.cli"},
)
LEVEL = {package: level for level, row in enumerate(ROWS) for package in row}

# Who may import a package at all. The package root and the command line's entry re-export lazily.
ONLY = {
    "gradio": ("opensora/ui/", "app.py"),
    "spaces": ("opensora/space/",),
    "colossalai": ("opensora/acceleration/shardformer/", "opensora/training/colossalai_plugin.py"),
    "opensora.distributed": (
        "opensora/acceleration/",
        "opensora/training/",
        "opensora/pipelines/",
        "opensora/jobs/",
        "scripts/",
    ),
}

# The one import upwards, inside a function: `shardformer_t5` was published beside HFEmbedder, its policy further up.
UPWARDS = {("opensora/models/text/conditioner.py", "opensora.acceleration.shardformer.apply.apply_shardformer")}

FILES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "app.py", *(p for d in ("opensora", "scripts", "benchmarks") for p in (ROOT / d).rglob("*.py")))
    if path.is_file()
)


def imports_of(path: Path) -> Iterator[str]:
    """Absolute names of everything a file imports, at its top or inside functions."""
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(name: str) -> str | None:
    """The row entry that a dotted name belongs to, or None for other people's packages."""
    parts = name.split(".")
    return next((p for p in (".".join(parts[:2]), parts[0]) if p in LEVEL), None)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_go_down_only(path: Path) -> None:
    here = package_of(".".join(path.with_suffix("").parts))
    for name in imports_of(path):
        there = package_of(name)
        if here and there and there != here and (str(path), name) not in UPWARDS:
            assert LEVEL[there] < LEVEL[here], f"{path} (row {LEVEL[here]}) imports {name} (row {LEVEL[there]})"
        for package, homes in ONLY.items():
            if name == package or name.startswith(package + "."):
                allowed = (f"{package.replace('.', '/')}/", *homes)
                assert str(path).startswith(allowed), f"{path} imports {name}; only {', '.join(homes)} may"


def test_every_package_has_a_row() -> None:
    unplaced = [
        str(path)
        for path in FILES
        if path.parts[0] == "opensora"
        and path.name not in ("__init__.py", "__main__.py")
        and package_of(".".join(path.with_suffix("").parts)) is None
    ]
    assert unplaced == []


@pytest.mark.parametrize("path", [p for p in FILES if p.parts[0] == "opensora"], ids=str)
def test_colossalai_is_imported_inside_functions(path: Path) -> None:
    for node in ast.parse((ROOT / path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            assert not any(name.split(".")[0] == "colossalai" for name in names), path
            assert (str(path), f"{names[0]}.{node.names[0].name}") not in UPWARDS, path
