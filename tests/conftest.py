"""Prints the table of reference numbers that were compared, and keeps it in ``.pytest_cache/parity.json``.

A run of all tests fails if a reference number was not used, and with OPENSORA_REQUIRE_BROWSER=1 also if a test in the
browser was skipped or none ran.
"""

import json
import os
from typing import Any

import golden_io
import pytest


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """With pytest-xdist: collect a worker's records."""
    output = getattr(node, "workeroutput", {})
    golden_io.merge(output.get("parity", {}), output.get("read", {}))


def covers_everything(config: pytest.Config) -> bool:
    """Whether no test was left out by a path or an expression."""
    option = config.option
    chosen = (option.file_or_dir, option.keyword, option.deselect, getattr(option, "lf", False))
    return not any(chosen) and option.markexpr in ("", "not browser")


def browser_trouble(reporter: Any) -> str | None:
    """Why the tests in the browser do not count as run, ``None`` if they do or need not."""
    if os.environ.get("OPENSORA_REQUIRE_BROWSER") != "1" or not covers_everything(reporter.config):
        return None
    counts = {
        outcome: sum("browser" in getattr(report, "keywords", ()) for report in reporter.stats.get(outcome, ()))
        for outcome in ("passed", "failed", "skipped")
    }
    if counts["skipped"]:
        return f"{counts['skipped']} tests in the browser were skipped"
    return None if counts["passed"] + counts["failed"] else "no test in the browser ran"


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["parity"] = golden_io.as_json()
        output["read"] = {name: sorted(keys) for name, keys in golden_io.read.items()}
        return
    if golden_io.records:
        folder = session.config.rootpath / ".pytest_cache"
        folder.mkdir(exist_ok=True)
        (folder / "parity.json").write_text(json.dumps(golden_io.as_json(), indent=1) + "\n", encoding="utf-8")
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    unread = covers_everything(session.config) and golden_io.unread()
    if session.exitstatus == pytest.ExitCode.OK and (unread or browser_trouble(reporter)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    trouble = browser_trouble(terminalreporter)
    if trouble:
        terminalreporter.line(f"OPENSORA_REQUIRE_BROWSER=1, but {trouble}.", red=True)
    if not golden_io.records:
        return
    width = max(map(len, golden_io.records))
    terminalreporter.section("parity with the published networks (float32)")
    terminalreporter.line(f"{'fixture':{width}}  max error / rms  relative Frobenius  max error / max")
    for name, parity in sorted(golden_io.records.items()):
        terminalreporter.line(
            f"{name:{width}}  {parity.max_to_rms:15.1e}  {parity.rel_fro:18.1e}  {parity.max_to_max:15.1e}"
        )
    if covers_everything(terminalreporter.config) and not terminalreporter.stats.get("failed"):
        for line in golden_io.unread():
            terminalreporter.line(f"no test reads {line}", red=True)
