"""Where a Chromium is found, or how one is installed. What is done with it is not known here."""

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from playwright.sync_api import sync_playwright

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_LIMIT_SEC = 300


class NoChromium(Exception):
    """There is none, and none could be installed: the reason, in one line."""


def find_or_install() -> Path:
    """A browser that Playwright can drive; NoChromium where this machine has none and can get none."""
    if found := _installed():
        return found
    _install()
    if found := _installed():
        return found
    raise NoChromium("Chromium was installed, but is not found")


def _installed() -> Path | None:
    if found := next(filter(None, map(shutil.which, _NAMES)), None):
        return Path(found)
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
    return own if own.exists() else None


def _install() -> None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with suppress(NoChromium):  # One repository of many that fails is no reason.
            _run("apt-get", "update")
        _run("apt-get", "install", "-y", "chromium")
    else:
        _run(sys.executable, "-m", "playwright", "install", "chromium")


def _run(*command: str) -> None:
    variables = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(command, env=variables, capture_output=True, text=True, check=True, timeout=_LIMIT_SEC)
    except subprocess.TimeoutExpired:
        raise NoChromium(f"no Chromium: `{' '.join(command)}` was not done after {_LIMIT_SEC} s") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout or "no word").strip().splitlines()
        raise NoChromium(f"no Chromium: `{' '.join(command)}` failed: {lines[-1]}") from None
