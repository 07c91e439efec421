"""Take the pictures of the docs from a running Dagster UI; by hand, after a build and a release of the images below.

scripts/ui & PYTHONPATH=. python docs/screenshots.py [URL [PICTURE...]]
pngquant --force --ext .png --strip docs/images/*.png
"""

from __future__ import annotations

import json
import shutil
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from playwright.sync_api import ViewportSize, sync_playwright

from aml_images_dagster.fleet.page import fleet_page
from tests.fleet import fleets

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Page

IMAGES = Path(__file__).parent / "images"
LOCATION = "aml_images_dagster"

SHOWN = ("base/openmpi4.1-debian12", "framework/scikit-learn", "framework/lightgbm")
GROUPS = ("base", "framework", "release")
STAGED = "framework/scikit-learn.staged"
RELEASED = "base/openmpi4.1-debian12.released"

# What a person would choose in the UI: a narrow navigation, and on an asset its checks and its status only.
CHOICES = {"dagster-nav-collapsed": "true", "asset-node-facets": json.dumps(["unsynced-tag", "checks", "status"])}
LAST_RUN = """query ($job: String) { runsOrError(filter: {pipelineName: $job, statuses: [SUCCESS]}, limit: 1) {
    ... on Runs { results { runId } } } }"""


def lineage(page: Page, _: str) -> None:
    """The chains of a base image and of the images FROM it, down to the files of the build."""
    selection = " or ".join([*(f'key:"{image}.*"' for image in SHOWN), 'group:"release"'])
    expanded = ",".join(f"global@global:{group}" for group in GROUPS)
    page.goto(f"/asset-groups~{quote(selection, safe='')}/?expanded={quote(expanded)}")
    page.get_by_text("drop", exact=True).first.wait_for()
    page.locator("[aria-label=panel_show_right]").last.click()  # the list of groups
    page.wait_for_timeout(3000)  # until the graph has its layout
    page.mouse.dblclick(110, 980)  # on the empty canvas: fit the graph in


def staged(page: Page, _: str) -> None:
    """An image in staging: where, why, from what."""
    page.goto(f"/assets/{STAGED}")
    page.get_by_text("content_key", exact=True).wait_for()


def run(page: Page, url: str) -> None:
    """The run of a build: its steps in time, and what the checks found."""
    page.goto(f"/runs/{_last(url, 'build_images')}?logs={quote('type:ASSET_CHECK_EVALUATION')}")
    page.get_by_text("Check notices").first.wait_for()


def _last(url: str, job: str) -> str:
    body = json.dumps({"query": LAST_RUN, "variables": {"job": job}}).encode()
    request = urllib.request.Request(f"{url}/graphql", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        (last,) = json.load(answer)["data"]["runsOrError"]["results"]
    return str(last["runId"])


def launchpad(page: Page, _: str) -> None:
    """The options of a build."""
    page.goto(f"/locations/{LOCATION}/jobs/build/playground")
    page.get_by_text("No errors").wait_for()
    page.locator(".CodeMirror-line").filter(has_text="release_num:").click()  # explains the fields at the right


def release_launchpad(page: Page, _: str) -> None:
    """A release, as it is started: by the link of its build, and a dry run first."""
    page.goto("/assets/release/release.json")
    page.get_by_role("link", name="Dry run").click()
    page.get_by_text("No errors").wait_for()
    page.locator(".CodeMirror-line").filter(has_text="dry_run:").click()  # explains the fields at the right


def in_production(page: Page, _: str) -> None:
    """What is in production since when, and whether the public has it."""
    page.goto(f"/assets/{RELEASED}")
    page.get_by_text("release_tag", exact=True).first.wait_for()


def production_history(page: Page, _: str) -> None:
    """Every release and rollback of an image."""
    page.goto(f"/assets/{RELEASED}?view=events")
    page.get_by_text("Materialized", exact=False).first.wait_for()


def release_run(page: Page, url: str) -> None:
    """The run of a release: what it has moved, and its promotion."""
    page.goto(f"/runs/{_last(url, 'release')}")
    page.get_by_text("promoted").first.wait_for()


def automation(page: Page, _: str) -> None:
    """Schedules and sensors with their switches."""
    page.goto("/automation")
    page.get_by_text("windows_patch_day_schedule").wait_for()


def schedule(page: Page, _: str) -> None:
    """The Windows patch day: when it comes next, and its ticks with the builds that they asked for."""
    page.goto(f"/locations/{LOCATION}/schedules/windows_patch_day_schedule")
    page.get_by_text("Tick history").first.wait_for()


def upstream(page: Page, _: str) -> None:
    """External bases before the images that are built on them, and the images FROM those."""
    selection = '1+key:"base/*.staged" or key:"framework/*.staged"'
    expanded = ",".join(f"global@global:{group}" for group in ("upstream", "base", "framework"))
    page.goto(f"/asset-groups~{quote(selection, safe='')}/?expanded={quote(expanded)}")
    page.get_by_text("scikit-learn.staged").first.wait_for()
    page.locator("[aria-label=panel_show_right]").last.click()  # the list of groups
    page.wait_for_timeout(3000)
    page.mouse.dblclick(110, 880)  # on the empty canvas: fit the graph in


def fleet(page: Page, _: str) -> None:
    """The fleet of the tests, each image in another state; no UI is needed for it."""
    page.set_content(fleet_page(fleets.fleet(fleets.of_each_kind())))


# Width and height in CSS pixels: nothing is cut off.
SCALE = 1.25
PICTURES: dict[Callable[[Page, str], None], tuple[int, int]] = {
    lineage: (1840, 1120),
    staged: (2150, 1440),
    run: (1600, 1000),
    launchpad: (1600, 1000),
    release_launchpad: (1600, 900),
    in_production: (1900, 1250),
    production_history: (1900, 1000),
    release_run: (1700, 1000),
    automation: (1600, 870),
    schedule: (1600, 900),
    upstream: (1500, 900),
    fleet: (1600, 740),
}


def main() -> None:
    url = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:3000"
    IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for show, (width, height) in PICTURES.items():
            if sys.argv[2:] and show.__name__ not in sys.argv[2:]:
                continue
            viewport = ViewportSize(width=width, height=height)
            context = browser.new_context(base_url=url, viewport=viewport, device_scale_factor=SCALE)
            context.add_init_script(f"Object.assign(localStorage, {json.dumps(CHOICES)})")
            page = context.new_page()
            show(page, url)
            page.wait_for_timeout(3000)  # until the status of every asset has arrived and the graph stands still
            page.screenshot(path=IMAGES / f"{show.__name__}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
