"""What importing costs: nothing heavy, no device, no environment, no network, until something needs it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "diffusers", "gradio", "colossalai", "numpy", "av")


def run(code: str) -> dict[str, object]:
    """Run Python code in a fresh interpreter at the repository root; it prints one JSON object last."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_importing_the_package_loads_nothing_heavy_and_reads_no_environment() -> None:
    report = run(f"""
import os, sys, json, socket
read = []
class Watched(dict):
    def __getitem__(self, key): read.append(key); return super().__getitem__(key)
    def get(self, key, default=None): read.append(key); return super().get(key, default)
os.environ = Watched(os.environ)
def refuse(*a, **k): raise AssertionError("network")
socket.socket = refuse
import opensora, opensora.config, opensora.log
heavy = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps({{"heavy": heavy, "read": read, "version": opensora.__version__}}))
""")
    assert report["heavy"] == []
    assert report["read"] == []
    assert report["version"]


def test_names_are_offered_lazily() -> None:
    report = run("""
import json, sys, opensora
before = "torch" in sys.modules
from opensora import build_models, generate_video, load_image
print(json.dumps({"before": before, "callable": all(map(callable, (build_models, generate_video, load_image))),
                  "gradio": "gradio" in sys.modules}))
""")
    assert report == {"before": False, "callable": True, "gradio": False}


def test_a_wrong_name_lists_the_right_ones() -> None:
    import opensora

    with pytest.raises(AttributeError, match="generate_video"):
        _ = opensora.generate_vidoe


def test_no_module_below_the_page_loads_gradio_or_colossalai_or_touches_a_device() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "opensora").rglob("*.py"))
        if path.name != "__main__.py" and "ui" not in path.relative_to(ROOT).parts
    ]
    report = run(f"""
import importlib, json, sys
for name in {modules!r}:
    importlib.import_module(name)
import torch
print(json.dumps({{"heavy": [m for m in ("gradio", "colossalai") if m in sys.modules],
                  "cuda": torch.cuda.is_initialized(), "float32": torch.get_default_dtype() == torch.float32}}))
""")
    assert report == {"heavy": [], "cuda": False, "float32": True}
