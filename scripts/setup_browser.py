"""Find the Chromium that the browser tests drive, or install one; print its path, or an empty line.

Messages for the person go to stderr, so that a Makefile can read the path from stdout. The exit
status is 0 either way, unless OPENSORA_REQUIRE_BROWSER=1 is set and there is no browser: then 1.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge")
MAC_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)


def say(message: str) -> None:
    """Tell the person; stdout is for the path alone."""
    print(message, file=sys.stderr)


def runs(path: str) -> bool:
    """Whether the program at `path` starts and calls itself by a version (a snap stub does not)."""
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=120, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def playwright_browser() -> str | None:
    """The path of the Chromium that playwright installed for itself, if it did."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None


def installed_browser() -> str | None:
    """A browser that is already on this machine: named by OPENSORA_BROWSER, on the PATH, or playwright's."""
    named = os.environ.get("OPENSORA_BROWSER")
    on_path = [shutil.which(name) for name in NAMES]
    for path in (named, *on_path, *MAC_PATHS):
        if path and Path(path).is_file() and runs(path):
            return path
    return playwright_browser()


def install_browser() -> None:
    """Try apt (as root), then playwright's own download. Failing is allowed; the caller looks again."""
    attempts: list[list[list[str]]] = []
    if hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get"):
        attempts.append([["apt-get", "update"], ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]])
    attempts.append([[sys.executable, "-m", "playwright", "install", "chromium"]])
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for commands in attempts:
        for command in commands:
            say(f"No browser found; running: {' '.join(command)}")
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=900, check=False)
            if done.returncode != 0:
                lines = [line for line in (done.stdout + done.stderr).splitlines() if "rror" in line or "E:" in line]
                say(f"That did not work: {lines[-1].strip() if lines else f'exit status {done.returncode}'}")
                break
        if installed_browser():
            return


def main() -> int:
    """Print the path of a working browser, installing one if need be."""
    browser = installed_browser()
    if browser is None:
        try:
            install_browser()
        except (OSError, subprocess.TimeoutExpired) as error:
            say(f"Installing a browser failed: {error}")
        browser = installed_browser()
    if browser is None:
        say("There is no Chromium or Chrome here and none could be installed.")
    print(browser or "")
    return 1 if browser is None and os.environ.get("OPENSORA_REQUIRE_BROWSER") == "1" else 0


if __name__ == "__main__":
    sys.exit(main())
