"""Takes the picture of the documentation: `python tests/unit/studio/screenshot.py http://127.0.0.1:7860 FILE.png`."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

CHOICES = {"Size": "large", "Colour": "yellow", "Shape": "ring", "Background": "purple"}
COLOURS = 256


def screenshot(address: str, file: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 1035})
        page.goto(address)
        expect(page.locator("#teacher img")).to_be_visible()
        for name, value in CHOICES.items():
            page.get_by_label(name, exact=True).fill(value)
            page.get_by_label(name, exact=True).press("Enter")
        page.get_by_label("4", exact=True).last.check()
        expect(page.locator("#teacher img")).to_have_count(4)
        page.get_by_label("Seed", exact=True).fill("1")  # the first grid of a size takes longer
        page.locator("h1").click()
        page.wait_for_timeout(3000)
        page.screenshot(path=file)
        browser.close()
    # Few colours, so that the file is small.
    Image.open(file).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    screenshot(sys.argv[1], Path(sys.argv[2]))
