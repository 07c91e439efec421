"""The page in a browser: at a phone's width and at a wide screen's, by keyboard, in light and dark."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from aml_images_dagster.fleet.page import fleet_page
from tests.browser.conftest import chromium as chromium
from tests.fleet import fleets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    Open = Callable[..., Page]

pytestmark = pytest.mark.browser

WIDTHS = (360, 1600)
FLEETS = {12: fleets.of_each_kind(), 1000: fleets.of_size(1000)}

# Text whose contrast with what is behind it is less than 4.5, by WCAG 2.2.
LOW_CONTRAST = """() => {
  const parse = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (text) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = text; canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const luminance = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = rgb(getComputedStyle(each).backgroundColor);
      if (colour[3] === 255) return colour;
    }
    return [255, 255, 255];
  };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || ["SCRIPT", "STYLE"].includes(element.tagName)) continue;
    const [a, b] = [luminance(rgb(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) low.push(`${node.data.trim()}: ${ratio.toFixed(2)}`);
  }
  return low;
}"""
# Elements that stick out of the screen.
TOO_WIDE = """() => [...document.querySelectorAll("main *, header *")]
  .filter((each) => each.checkVisibility() && !each.closest(".visually-hidden, .sprite"))
  .filter((each) => each.getBoundingClientRect().right > document.documentElement.clientWidth + 1)
  .map((each) => each.outerHTML.slice(0, 80))"""
# Texts of neighbours in a row that overlap.
OVERLAPS = """() => [...document.querySelectorAll("tbody tr")].slice(0, 20).flatMap((row) => {
  const cells = [...row.cells].filter((cell) => cell.checkVisibility());
  return cells.filter((cell) => cell.scrollWidth > cell.clientWidth + 1).map((cell) => cell.innerText);
})"""


@pytest.fixture
def show(chromium: Browser, tmp_path: Path) -> Iterator[Open]:
    """Opens the page of a fleet; whatever the browser complains of fails the test."""
    contexts, complaints = [], []

    def show(number: int = 12, width: int = 1600, scheme: str = "light", *, script: bool = True, **page: Any) -> Page:
        file = tmp_path / "fleet.html"
        file.write_text(fleet_page(fleets.fleet(FLEETS[number]), **page), "utf-8")
        context = chromium.new_context(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled=script,
        )
        contexts.append(context)
        opened = context.new_page()
        opened.on("console", lambda message: complaints.append(message.text))
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("request", lambda request: None if request.url == file.as_uri() else complaints.append(request.url))
        opened.goto(file.as_uri())
        return opened

    yield show
    for context in contexts:
        context.close()
    assert [each for each in complaints if not each.startswith("data:")] == []


def names(page: Page) -> list[str]:
    """The images that are shown, in order."""
    shown = """() => [...document.querySelectorAll("tbody tr:not([hidden])")].map((row) => row.cells[0].dataset.key)"""
    found: list[str] = page.evaluate(shown)
    return found


@pytest.mark.parametrize("number", [12, 1000])
@pytest.mark.parametrize("width", [*WIDTHS, 900])
def test_it_fits_the_screen(show: Open, number: int, width: int) -> None:
    page = show(number, width)
    assert page.evaluate(TOO_WIDE) == []
    assert page.evaluate(OVERLAPS) == []
    expect(page.get_by_role("rowheader").first).to_be_visible()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(show: Open, width: int, scheme: str) -> None:
    page = show(12, width, scheme)
    page.evaluate("() => document.querySelectorAll('tbody input').forEach((box) => { box.checked = true; })")
    page.get_by_role("button", name="Watch").click()
    page.get_by_role("button", name="Action needed").click()
    assert page.evaluate(LOW_CONTRAST) == []
    colours = {"light": "rgb(245, 246, 248)", "dark": "rgb(14, 17, 22)"}
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == colours[scheme]


@pytest.mark.parametrize("width", WIDTHS)
def test_everything_can_be_read_without_its_script(show: Open, width: int) -> None:
    page = show(12, width, script=False)
    assert not page.locator(".tools").is_visible()
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="openmpi4.1-debian12"))
    row.get_by_role("checkbox").check(force=True)
    for said in ("patch 6 days late", "20261010.v1", "1 critical", "3 passed", "team:base-images", "signed"):
        expect(row.get_by_text(said, exact=True).first).to_be_visible()
    assert row.get_by_text("is now sha256:5f9a1c0b7e2d").evaluate("each => each.scrollHeight <= each.clientHeight + 1")


def test_the_keyboard_filters_and_sorts(show: Open) -> None:
    page = show(1000)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("triton LATE")
    found = names(page)
    assert found
    assert all("triton" in name for name in found)
    expect(page.get_by_role("status")).to_have_text(f"{len(found)} of 1,000 images")
    page.keyboard.press("Escape")
    assert len(names(page)) == 1000
    page.get_by_role("button", name="Age", exact=True).focus()
    ages = []
    for _ in range(3):
        page.keyboard.press("Enter")
        ages.append(page.locator("tbody tr").first.locator("[data-name=age]").inner_text())
        expect(page.get_by_role("button", name="Age", exact=True)).to_be_focused()
    assert ages[:2] == ["1 day", "60 days"]
    assert names(page) == [row.facts.image for row in fleets.fleet(FLEETS[1000]).rows]


def test_every_control_is_reached_by_the_keyboard_and_is_seen_to_be(show: Open) -> None:
    page = show(12)
    reached = []
    for _ in range(40):
        page.keyboard.press("Tab")
        outline = """() => { const each = document.activeElement, label = each.closest("label");
            const style = getComputedStyle(each), around = label && getComputedStyle(label);
            return [each.tagName + (each.type === "checkbox" ? "" : each.textContent.trim().slice(0, 20)),
              style.outlineStyle !== "none" || (around && around.outlineStyle !== "none")]; }"""
        reached.append(page.evaluate(outline))
    tags = [name for name, _ in reached]
    for control in ("ASkip to the images", "BUTTON2 Action needed", "BUTTONAge", "INPUT"):
        assert control in tags
    assert any(name.startswith("SELECT") for name in tags)
    assert [name for name, is_seen in reached if not is_seen and name[:4] != "BODY"] == []


def test_a_status_filters_and_says_that_it_does(show: Open) -> None:
    page = show(12, 360)
    good = page.get_by_role("button", name="Good")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    assert len(names(page)) == 5
    page.get_by_role("button", name="Watch").click()
    assert len(names(page)) == 9
    page.get_by_role("searchbox").fill("nothing is like this")
    expect(page.get_by_text("No image is like that.")).to_be_visible()


def test_what_is_not_known_comes_last_in_both_directions(show: Open) -> None:
    page = show(12)
    for _ in range(2):
        page.get_by_role("button", name="Days left").click()
        keys = page.evaluate("() => [...document.querySelectorAll('[data-name=left]')].map((each) => each.dataset.key)")
        known = [key for key in keys if key]
        assert keys == known + [""] * (len(keys) - len(known))
    assert [int(key) for key in known] == sorted(map(int, known), reverse=True)


def test_a_card_shows_all_details_on_demand(show: Open) -> None:
    page = show(12, 360)
    row = page.get_by_role("row").filter(has_text="framework/pytorch-2.9")
    expect(row.get_by_text("failed", exact=True)).not_to_be_visible()
    row.get_by_label("All details of framework/pytorch-2.9").check()
    expect(row.get_by_text("failed", exact=True)).to_be_visible()
    expect(row.get_by_text("NCCL WARN")).to_be_visible()


def test_the_public_page_fits_as_well(show: Open) -> None:
    for width in WIDTHS:
        page = show(12, width, public=True)
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate(OVERLAPS) == []
        assert json.dumps(names(page)).count("framework/jax") == 0
