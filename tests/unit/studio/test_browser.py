"""The page in a real browser, Debian's Chromium without a window, on a server of `sidlsg studio`."""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Error, Page, Request, expect, sync_playwright

from sidlsg.registry.server.process import free_port

PATIENCE_S = 60
WIDE, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
TOKEN = "0123456789abcdef"
RING = "a small green ring on a white background"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium")
    assert chromium, "there is no chromium; `make browser` installs it"
    with sync_playwright() as playwright:
        # As root, as in a container, Chromium has no sandbox; it visits the page alone.
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tiny_student: Path, registry: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of a server with a token, whose browsers must sign in."""
    port, log = free_port(), tmp_path_factory.mktemp("studio") / "log"
    command = [sys.executable, "-m", "sidlsg", "studio", str(tiny_student), "--port", str(port)]
    environment = {**os.environ, "SIDLSG_STUDIO_TOKEN": TOKEN, "MLFLOW_TRACKING_URI": registry}
    with log.open("w") as output:
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        until = time.monotonic() + 5 * PATIENCE_S
        while "is on http" not in log.read_text():
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < until
            time.sleep(0.1)
        yield re.search(r"http://[\d.]+:\d+", log.read_text())[0]
        assert "Traceback" not in log.read_text()
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


@pytest.fixture
def opened(browser: Browser, address: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page, whose requests to other hosts and errors fail the test."""
    size = getattr(request, "param", WIDE)
    context = browser.new_context(viewport=size, http_credentials={"username": "ada", "password": TOKEN})
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)
    elsewhere: list[str] = []
    errors: list[str] = []

    def note(request: Request) -> None:
        if not request.url.startswith((f"{address}/", "data:", "blob:")):
            elsewhere.append(request.url)

    page.on("request", note)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda each: errors.append(each.text) if each.type == "error" else None)
    page.goto(address)
    expect(page.locator("#student img")).to_be_visible()
    yield page
    context.close()
    assert elsewhere == []
    assert errors == []


def source(page: Page, of: str) -> str:
    """The first image's data URI."""
    return page.locator(f"#{of} img").first.get_attribute("src") or ""


def enter(page: Page, name: str, value: str) -> None:
    """Type a value into a dropdown."""
    page.get_by_label(name, exact=True).fill(value)
    page.get_by_label(name, exact=True).press("Enter")


def choose(page: Page, name: str, value: str) -> None:
    """Open a dropdown and click on a value."""
    page.get_by_label(name, exact=True).click()
    expect(page.get_by_role("listbox")).to_have_count(1)  # that of the one before fades out
    page.get_by_role("option", name=value, exact=True).click()


def test_typing_changes_both_images_and_their_times(opened: Page) -> None:
    expect(opened.locator("#teacher")).to_contain_text("times the student's")
    before = {of: source(opened, of) for of in ("student", "teacher")}
    opened.get_by_label("Prompt").press_sequentially(" and more", delay=20)
    for of, src in before.items():
        expect(opened.locator(f"#{of} img")).not_to_have_attribute("src", src)
        expect(opened.locator(f"#{of} .time strong")).to_have_text(re.compile(r"^[\d.]+ m?s$"))
    assert base64.b64decode(source(opened, "student").partition(",")[2]).startswith(b"\x89PNG")
    # Crisp: each of 32 pixels is a square.
    assert opened.locator("#student img").evaluate("image => image.naturalWidth") == 512


def test_choices_write_the_prompt_and_those_that_exclude_each_other_say_so(opened: Page) -> None:
    for name, value in (("Size", "small"), ("Colour", "green"), ("Shape", "ring"), ("Background", "white")):
        choose(opened, name, value)
    expect(opened.get_by_label("Prompt")).to_have_value(RING)
    opened.get_by_label("Prompt").fill("a large red ring on a white background")
    expect(opened.get_by_label("Colour", exact=True)).to_have_value("red")
    opened.get_by_label("Prompt").fill(RING)
    expect(opened.get_by_label("Colour", exact=True)).to_have_value("green")
    choose(opened, "Colour", "white")
    expect(opened.locator("#note")).to_contain_text("colour and background are both 'white'")
    choose(opened, "Colour", "green")
    expect(opened.locator("#note .message")).to_have_count(0)
    expect(opened.get_by_label("Prompt")).to_have_value(RING)


def test_errors_are_messages_and_the_page_goes_on(opened: Page) -> None:
    prompt = opened.get_by_label("Prompt")
    prompt.fill("")
    expect(opened.locator("#student")).to_contain_text("the prompt is empty")
    expect(opened.locator("#teacher")).to_contain_text("the prompt is empty")
    prompt.fill("a large red circle on a blue background, a large red circle on a blue background")
    expect(opened.locator("#student .message")).to_contain_text("its end is cut off")
    expect(opened.locator("#student img")).to_be_visible()


def test_seeds_and_a_grid(opened: Page) -> None:
    before = source(opened, "student")
    opened.get_by_role("button", name="New seed").click()
    expect(opened.locator("#student img")).not_to_have_attribute("src", before)
    opened.get_by_label("16", exact=True).check()
    expect(opened.locator("#student img")).to_have_count(16)
    expect(opened.locator("#teacher img")).to_have_count(16)
    opened.get_by_label("off", exact=True).check()
    expect(opened.locator("#teacher img")).to_have_count(0)


def test_a_version_of_the_registry_is_chosen_by_name(opened: Page) -> None:
    enter(opened, "Registered version", "tiny@champion")
    expect(opened.locator("h1")).to_have_text("tiny@champion")
    enter(opened, "Registered version", "tiny@other")
    expect(opened.locator("#note")).to_contain_text("no version or alias 'other'")
    expect(opened.locator("h1")).to_have_text("tiny@champion")


def test_the_slider_goes_through_training(opened: Page) -> None:
    grid = opened.locator("#training")
    last = grid.inner_text()
    opened.locator("#place input[type=range]").press("ArrowLeft")
    expect(grid).not_to_have_text(last)
    expect(grid.locator("img")).to_be_visible()


@pytest.mark.parametrize("opened", [PHONE], indirect=True)
def test_a_phone_needs_no_scrolling_to_the_side(opened: Page) -> None:
    expect(opened.locator("#teacher img")).to_be_visible()
    assert opened.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    for each in (
        opened.get_by_label("Prompt"),
        opened.get_by_role("button", name="New seed"),
        opened.get_by_label("50"),
    ):
        box = each.bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= PHONE["width"]
    # The student's image is on the first screen, below what changes it.
    top = opened.locator("#student img").bounding_box()
    assert top is not None
    assert top["y"] < PHONE["height"] * 0.9
    opened.get_by_label("Prompt").fill("a small black cross on a white background")
    before = source(opened, "student")
    opened.get_by_label("Prompt").fill(RING)
    expect(opened.locator("#student img")).not_to_have_attribute("src", before)


def test_without_the_token_there_is_no_page(browser: Browser, address: str) -> None:
    page = browser.new_page()
    try:
        answer = page.goto(address)
    except Error as error:  # Chromium shows no page of its own for this answer
        assert "ERR_INVALID_AUTH_CREDENTIALS" in str(error)
    else:
        assert answer is not None
        assert answer.status == 401
    page.close()
