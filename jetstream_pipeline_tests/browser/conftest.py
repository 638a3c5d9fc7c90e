"""A browser on the demonstration's UI, once for all tests here."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from jetstream_pipeline.storage.layout import DataDirectory
from jetstream_pipeline_tests.browser.chromium import NoChromium, find_or_install
from jetstream_pipeline_tests.browser.dagster_ui import DagsterUI
from jetstream_pipeline_tests.cli.test_demo import COMMAND

_WHOLE = [sys.executable, "-u", "-m", "jetstream_pipeline", "demo"]
"""For pictures, with all its events."""
_ADDRESS = re.compile(r"^Dagster's UI: (http://127\.0\.0\.1:\d+) ")
_STOPPING_SEC = 60
_SHOWN = pytest.StashKey[tuple[DagsterUI, Path]]()


@dataclass(frozen=True)
class Demo:
    """A demonstration that keeps its UI open at `address`."""

    address: str
    data: DataDirectory


@pytest.fixture(scope="session")
def chromium() -> Path:
    try:
        return find_or_install()
    except NoChromium as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def demo(chromium: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    command = _WHOLE if os.environ.get("JETSTREAM_TEST_SCREENSHOTS") else COMMAND
    command = [*command, "--ui", "--port", "0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        told = []
        try:
            for line in process.stdout:
                told.append(line)
                if found := _ADDRESS.match(line):
                    yield Demo(found[1], DataDirectory(folder / "data" / "demo"))
                    break
            else:
                pytest.fail(f"no UI:\n{''.join(told)}")
        finally:
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=_STOPPING_SEC)
    assert (process.returncode, rest.strip()) == (0, "Ended; nothing is left running.")


@pytest.fixture(scope="module")
def ui(
    chromium: Path, demo: Demo, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DagsterUI]:
    # It keeps an event loop running in this thread, in whose way tests of other modules would be.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
        browser.new_page(timezone_id="UTC", locale="en-US") as page,
    ):
        ui = DagsterUI(page, demo.address)
        request.session.stash[_SHOWN] = (ui, tmp_path_factory.mktemp("screenshots"))
        try:
            yield ui
        finally:
            del request.session.stash[_SHOWN]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows where the browser stood."""
    report = yield
    if report.failed and report.when != "teardown" and (shown := item.session.stash.get(_SHOWN, None)):
        ui, folder = shown
        path = folder / f"{item.name}.png"
        ui.page.screenshot(path=path)
        report.sections.append(("Screenshot", f"{path} (at {ui.page.url})"))
    return report
