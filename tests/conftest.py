"""Prints the table of reference numbers that were compared, and keeps it in ``.pytest_cache/parity.json``."""

import json
from typing import Any

import golden_io
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """With pytest-xdist: collect a worker's records."""
    golden_io.merge(getattr(node, "workeroutput", {}).get("parity", {}))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["parity"] = golden_io.as_json()
    elif golden_io.records:
        folder = session.config.rootpath / ".pytest_cache"
        folder.mkdir(exist_ok=True)
        (folder / "parity.json").write_text(json.dumps(golden_io.as_json(), indent=1) + "\n", encoding="utf-8")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not golden_io.records:
        return
    width = max(map(len, golden_io.records))
    terminalreporter.section("parity with the published networks (float32)")
    terminalreporter.line(f"{'fixture':{width}}  max error / rms  relative Frobenius")
    for name, parity in sorted(golden_io.records.items()):
        terminalreporter.line(f"{name:{width}}  {parity.max_to_rms:15.1e}  {parity.rel_fro:18.1e}")
