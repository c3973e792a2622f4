"""
Take the pictures that the documentation shows, of the pages that two examples write.

These are ``examples/explore_factors.py`` and ``examples/evaluate_dictionary.py``.

    python docs/pictures.py factors.html evaluation.html

Chromium must be installed, and playwright and Pillow (``pip install playwright pillow``).
"""

import argparse
import io
import os
import shutil
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
WIDE, PHONE = {"width": 1180, "height": 800}, {"width": 390, "height": 760}
COLOURS = 128
WORD = "language"


def overview(page):
    """Show a text of one's own, and the factor that is found first for a word, with a name given to it."""
    found(page)
    page.fill("#name", WORD)
    page.click("#what summary")


def whole_range(page):
    """Show what the factor does on its weaker tokens."""
    found(page)
    page.click("#ranges >> text=whole range")
    page.locator("#ranges").scroll_into_view_if_needed()
    page.locator("main").evaluate("main => main.scrollTo(0, document.getElementById('layers').offsetTop - 330)")


def beside(page):
    """Show two factors side by side."""
    found(page)
    page.locator("#near-direction .tab").first.click()
    page.locator("main").evaluate("main => main.scrollTo(0, document.getElementById('title').offsetTop - 120)")


def all_factors(page):
    """Show the map."""
    page.click("#to-map")
    page.locator("main").evaluate("main => main.scrollTo(0, document.getElementById('map').offsetTop - 120)")


def on_a_phone(page):
    """Show the list, searched."""
    page.click("#to-list")
    page.fill("[name=query]", WORD)


# File: what is done on the page before, the size of the window, and light or dark.
PICTURES = {
    "explorer.png": (overview, WIDE, "light"),
    "explorer_range.png": (whole_range, WIDE, "light"),
    "explorer_beside.png": (beside, WIDE, "dark"),
    "explorer_map.png": (all_factors, WIDE, "light"),
    "explorer_phone.png": (on_a_phone, PHONE, "light"),
}


def found(page):
    """Open what is found first."""
    page.fill("[name=query]", WORD)
    page.keyboard.press("Enter")
    page.wait_for_selector("main[aria-busy=false]")


def take(page, name):
    """Save what is seen of a page as a picture, and close it."""
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").quantize(COLOURS).save(FOLDER / name, optimize=True)
    print(FOLDER / name)
    page.close()


def main():
    """Take all pictures."""
    parser = argparse.ArgumentParser(description="Take the pictures of the explorer and of an evaluation.")
    parser.add_argument("explorer", type=Path, help="what explore_factors.py wrote")
    parser.add_argument("evaluation", type=Path, help="what evaluate_dictionary.py wrote")
    arguments = parser.parse_args()
    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    # Chromium has no sandbox for root.
    flags = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=flags)
        for name, (prepare, size, scheme) in PICTURES.items():
            # Else the page's policy forbids to ask again and again whether its texts are folded.
            page = browser.new_page(viewport=size, color_scheme=scheme, bypass_csp=True)
            page.goto(arguments.explorer.resolve().as_uri())
            page.wait_for_selector("main[aria-busy=false]", state="attached")
            # Until the contexts can be searched.
            page.wait_for_function("folded !== null")
            prepare(page)
            page.wait_for_timeout(500)
            take(page, name)
        page = browser.new_page(viewport=WIDE, color_scheme="light")
        page.goto(arguments.evaluation.resolve().as_uri())
        take(page, "evaluation.png")
        browser.close()


if __name__ == "__main__":
    main()
