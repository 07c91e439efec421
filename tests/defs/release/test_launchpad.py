"""Links to what a person may do next: they name the code location, the job and its configuration."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import dagster as dg
import yaml

from aml_images_dagster.defs.keys import LOCATION, RELEASE_JOB, RELEASED, ROLLBACK, ROLLBACK_JOB
from aml_images_dagster.defs.release.launchpad import build_link, release_link, release_links, rollback_link
from aml_images_dagster.defs.request import build_keys

if TYPE_CHECKING:
    from tests.defs.conftest import Load
    from tests.image_repository import ImageRepository

BUILD, IMAGE = "20261123.4f2a9c1e", "base/debian12"
LINK = re.compile(r"\[([^]]+)\]\(([^) ]+)\)")


def launchpads(markdown: object) -> dict[str, tuple[str, object]]:
    """Label of each link → path of the launchpad, and its configuration."""
    found = {}
    for label, address in LINK.findall(str(markdown)):
        split = urlsplit(address)
        found[label] = (split.path, yaml.safe_load(parse_qs(split.query)["config"][0])["ops"])
    return found


def setup(job: str) -> str:
    return f"/locations/{LOCATION}/jobs/{job}/playground/setup"


def test_the_location_is_that_of_the_workspace() -> None:
    workspace = yaml.safe_load((Path(__file__).parents[3] / "workspace.yaml").read_text())
    assert workspace["load_from"][0]["python_module"]["location_name"] == LOCATION


def test_a_release_and_its_dry_run() -> None:
    release = {RELEASED: {"config": {"build": BUILD, "outside_window": "", "accept_major": False, "who": ""}}}
    dry_run = {RELEASED: {"config": {"build": BUILD, "dry_run": True}}}
    assert launchpads(release_links(BUILD).value) == {
        "Dry run": (setup(RELEASE_JOB), dry_run),
        "release": (setup(RELEASE_JOB), release),
    }
    assert launchpads(release_link(BUILD).value) == {"Release": (setup(RELEASE_JOB), release)}


def test_a_roll_back() -> None:
    config = {ROLLBACK: {"config": {"image": IMAGE, "to": "", "reason": ""}}}
    assert launchpads(rollback_link(IMAGE).value) == {"Roll back": (setup(ROLLBACK_JOB), config)}


def test_a_build(repository: ImageRepository, load: Load) -> None:
    images = ("apps/hello", "tools/shell")
    ((label, address),) = LINK.findall(str(build_link(images).value))
    assert label == " ".join(images)
    selection = unquote(address).removeprefix("/asset-groups~").removesuffix("/")
    selected = dg.AssetSelection.from_string(selection).resolve(load(repository).resolve_asset_graph())
    assert selected == {*build_keys(images)}
    assert build_link(()).value == "nothing"
