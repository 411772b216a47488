"""What a newcomer relies on: pins that fit the ranges, a container that serves the page, and the size of the code."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SOURCES = sorted(
    path.relative_to(ROOT)
    for path in (ROOT / "app.py", *(p for d in ("opensora", "scripts", "benchmarks") for p in (ROOT / d).rglob("*.py")))
)
LONGEST_FUNCTION, LONGEST_FILE = 60, 400


def pins(name: str) -> dict[str, Version]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    exact = [line.split("==") for line in lines if line and not line.startswith(("#", "-r"))]
    return {package: Version(version) for package, version in exact}


@pytest.mark.parametrize(
    ("file", "ranges"),
    [
        ("requirements.txt", PROJECT["dependencies"]),
        ("requirements-dev.txt", PROJECT["optional-dependencies"]["dev"]),
    ],
)
def test_pins_are_those_of_the_ranges(file: str, ranges: list[str]) -> None:
    pinned, wanted = pins(file), {r.name: r.specifier for r in map(Requirement, ranges)}
    assert set(pinned) == set(wanted)
    assert {name for name, version in pinned.items() if version not in wanted[name]} == set()


def test_every_extra_is_of_packages_that_the_code_names() -> None:
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "opensora").rglob("*.py"))
    extras = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"}
    assert set(extras) == {"space", "s3", "quantize"}
    for package in (Requirement(text).name for wanted in extras.values() for text in wanted):
        assert re.search(rf"\b{re.escape(package)}\b", code), package


def test_the_container_serves_the_page_as_somebody_else_than_root() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    words = re.sub(r"\\\n\s*", "", text)
    instructions = [line.split(None, 1) for line in words.splitlines() if line and not line.startswith("#")]
    order = [name for name, _ in instructions]
    assert order.index("USER") < order.index("CMD") and dict(instructions)["USER"] == "1000:1000"
    assert dict(instructions)["VOLUME"] == "/data" and "/healthz" in dict(instructions)["HEALTHCHECK"]
    assert all((ROOT / name).exists() for line in instructions if line[0] == "COPY" for name in line[1].split()[-2:-1])
    environment = dict(re.findall(r"(\w+)=(\S+)", dict(instructions)["ENV"]))
    served = (ROOT / "app.py").read_text(encoding="utf-8")
    assert environment["GRADIO_SERVER_NAME"] == "0.0.0.0"
    for name in ("GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT", "GRADIO_TEMP_DIR", "OPENSORA_OUTPUT_DIR"):
        assert name in environment and name in served
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert not {"assets", "configs", "opensora", "app.py"} & set(ignored)
    assert {".git", ".venv", "outputs", "runs"} <= set(ignored)


def test_every_target_of_make_is_explained() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", text, re.MULTILINE)) - {"help", "python-path", "format", "distclean"}
    assert targets == set(re.findall(r"^#   make ([a-z-]+)  ", text, re.MULTILINE))


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_files_and_functions_are_short_and_finished(path: Path) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    assert not re.search(r"#\s*(TODO|FIXME|XXX)|\bNotImplementedError\b", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.lineno
            lines = (node.end_lineno or start) - start + 1
            assert lines <= LONGEST_FUNCTION, f"{path}:{node.lineno} {node.name} has {lines} lines below its docstring"
