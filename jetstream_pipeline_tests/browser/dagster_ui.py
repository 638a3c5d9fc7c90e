"""Dagster's UI as its user sees it: where things are on its pages. What is expected of them is the tests' to say."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import FloatRect, Locator, Page, ViewportSize, expect

LOCATION = "jetstream_pipeline"
GROUP = "network"

_WAIT_SEC = 60
_RUN_SEC = 180
_BACKFILL_SEC = 240
_WINDOW: ViewportSize = {"width": 1600, "height": 1000}
_TALL: ViewportSize = {"width": 1600, "height": 4000}
_NODE_ROWS = json.dumps(["latest-event", "partitions", "kind-tag"])
"""What the UI keeps in the browser's storage: so few rows in a graph's nodes keep a picture of it legible."""
_MARGIN_PX = 24


@dataclass(frozen=True)
class DagsterUI:
    """One browser page on the UI at `address`. What is not seen in time is an AssertionError of Playwright's."""

    page: Page
    address: str

    def open(self, path: str) -> None:
        self.page.goto(f"{self.address}/{path}")

    def open_graph(self) -> None:
        """The group's asset graph. A graph draws only the nodes that are in view: the window is tall."""
        self.page.set_viewport_size(_TALL)
        self.open(f"locations/{LOCATION}/asset-groups/{GROUP}/lineage")
        self.see(self.node("events"))

    def node(self, asset: str) -> Locator:
        return self.page.locator("foreignObject").get_by_text(asset, exact=True)

    def open_dialog(self, asset: str) -> Locator:
        """What `Materialize…` on an asset's page asks."""
        self.page.set_viewport_size(_WINDOW)
        self.open(f"assets/{asset}")
        self.page.get_by_role("button", name="Materialize…").click(timeout=_WAIT_SEC * 1000)
        dialog = self.page.get_by_role("dialog")
        self.see(dialog.get_by_role("button", name="Latest", exact=True))
        return dialog

    def launch(self, dialog: Locator, selection: str, count: int, button: str) -> None:
        """Choose partitions, launch, and go to the page of what was launched."""
        partitions = dialog.get_by_role("textbox").first
        partitions.fill(selection)
        partitions.press("Enter")
        self.see(dialog.get_by_text(f"{count} partition{'s' if count > 1 else ''}", exact=True))
        dialog.get_by_role("button", name=button, exact=True).click()
        self.page.get_by_role("link", name="View", exact=True).click(timeout=_WAIT_SEC * 1000)

    def run_state(self) -> str:
        """How the run whose page this is ended."""
        return self._one_of(self.page.locator("body"), ("Success", "Failure", "Canceled"), _RUN_SEC)

    def backfill_state(self) -> str:
        """How the backfill whose page this is ended."""
        status = self.page.get_by_text("Status", exact=True).locator("xpath=following-sibling::*")
        return self._one_of(status, ("Succeeded", "Completed", "Failed", "Canceled"), _BACKFILL_SEC)

    def open_partition(self, asset: str, key: str) -> None:
        """The asset's partitions, with one of them chosen."""
        self.page.set_viewport_size(_WINDOW)
        self.open(f"assets/{asset}?view=partitions")
        self.page.get_by_text(key, exact=True).and_(self.page.locator(":visible")).first.click(timeout=_WAIT_SEC * 1000)
        self.see(self.page.get_by_text("Materialized", exact=True))

    def metadata(self, label: str) -> str:
        """One entry of the materialization that is shown."""
        row = self.page.get_by_role("row").filter(has=self.page.get_by_role("cell", name=label, exact=True))
        return row.get_by_role("cell").nth(1).inner_text(timeout=_WAIT_SEC * 1000)

    def open_markdown(self) -> Locator:
        """The long text among the metadata that are shown, in a dialog of its own."""
        self.page.get_by_text("[Show Markdown]", exact=True).click(timeout=_WAIT_SEC * 1000)
        return self.page.get_by_role("dialog")

    def see_picture(self, picture: Locator) -> None:
        """A picture that the browser could read."""
        self.see(picture)
        expect(picture).not_to_have_js_property("naturalWidth", 0, timeout=_WAIT_SEC * 1000)

    def see(self, locator: Locator) -> None:
        expect(locator.first).to_be_visible(timeout=_WAIT_SEC * 1000)

    def save_graph(self, path: Path, assets: Sequence[str]) -> None:
        """A picture of the graph that is open."""
        self.page.evaluate("rows => localStorage.setItem('asset-node-facets', rows)", _NODE_ROWS)
        self.page.reload()
        nodes = self.page.locator("foreignObject")
        for asset in assets:
            self.see(nodes.filter(has=self.page.get_by_text(asset, exact=True)).filter(has_text="filled"))
        boxes = [box for node in nodes.all() if (box := node.bounding_box())]
        x, y = min(box["x"] for box in boxes) - _MARGIN_PX, min(box["y"] for box in boxes) - _MARGIN_PX
        width = max(box["x"] + box["width"] for box in boxes) + _MARGIN_PX - x
        height = max(box["y"] + box["height"] for box in boxes) + _MARGIN_PX - y
        self._save(path, x, y, width, height)

    def save_page(self, path: Path) -> None:
        """A picture of the page that is open, without the navigation at its left."""
        navigation = self.page.get_by_role("navigation").bounding_box()
        assert navigation
        x = navigation["x"] + navigation["width"]
        self._save(path, x, 0, _WINDOW["width"] - x, _WINDOW["height"])

    def save_dialog(self, path: Path, dialog: Locator) -> None:
        """A picture of as much of a dialog as the window shows."""
        box = dialog.bounding_box()
        assert box
        self._save(path, box["x"], box["y"], box["width"], min(box["height"], _WINDOW["height"] - box["y"]))

    def _save(self, path: Path, x: float, y: float, width: float, height: float) -> None:
        clip: FloatRect = {"x": x, "y": y, "width": width, "height": height}
        self.page.screenshot(path=path, clip=clip, animations="disabled")

    def _one_of(self, place: Locator, words: Sequence[str], seconds: float) -> str:
        found = place.get_by_text(re.compile(f"^({'|'.join(words)})$")).first
        expect(found).to_be_visible(timeout=seconds * 1000)
        return found.inner_text()
