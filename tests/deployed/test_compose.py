"""deploy/compose really runs: a build and a release behind the sign-in, a message, each part restarted in mid-build."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from aml_images_dagster.catalog.reference import Reference
from tests.deployed.compose import SUFFIX, deploy
from tests.deployed.site import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser, Page

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.deployed.compose import Deployed

pytestmark = [pytest.mark.engine, pytest.mark.deployed]


@pytest.fixture(scope="module")
def deployed(
    tmp_path_factory: pytest.TempPathFactory,
    factory_image: str,
    stand_ins: dict[str, str],
    staging: OciRegistry,
    busybox: Reference,
    engine_client: docker.DockerClient,
) -> Iterator[Deployed]:
    root = tmp_path_factory.mktemp("compose")
    with deploy(root, factory_image, stand_ins, staging, busybox, engine_client) as found:
        yield found


def button(page: Page, text: str) -> Any:
    return page.get_by_role("button").filter(has_text=re.compile(f"^{text}$"))


def launch_and_follow(page: Page, deployed: Deployed) -> str:
    """Press Launch Run, and wait on the run's page for its success; its id."""
    button(page, "Launch Run").click()
    page.wait_for_url("**/runs/*")
    run_id = page.url.rpartition("/")[2]
    done = deployed.site.ended(run_id)
    assert done["status"] == "SUCCESS", done["errors"]
    expect(page.get_by_text("Success", exact=True).first).to_be_visible()
    return run_id


def test_who_signs_in_builds_and_releases_in_a_browser(deployed: Deployed, chromium: Browser) -> None:
    name, password = deployed.site.user or ("", "")
    with pytest.raises(PlaywrightError, match="ERR_INVALID_AUTH_CREDENTIALS"):
        chromium.new_context(base_url=deployed.site.url).new_page().goto("/")
    credentials = {"username": name, "password": password}
    context = chromium.new_context(base_url=deployed.site.url, http_credentials=credentials)  # type: ignore[arg-type]
    context.set_default_timeout(60_000)
    expect.set_options(timeout=60_000)
    page = context.new_page()
    page.goto("/jobs")
    page.locator('a[href$="/jobs/build"]').first.click()
    page.get_by_role("tab").filter(has_text="Launchpad").click()
    expect(page.get_by_text("No errors")).to_be_visible()
    launch_and_follow(page, deployed)
    page.locator('a[href^="/runs/"]').filter(has_text=re.compile("^[0-9a-f]{8}-[0-9a-f-]{27}$")).first.click()
    (build_run,) = deployed.site.runs("build_images")
    assert deployed.site.ended(build_run)["status"] == "SUCCESS"

    page.goto("/assets/release/release.json")
    page.get_by_role("link", name="Dry run").click()
    expect(page.locator(".CodeMirror-code").first).to_contain_text("dry_run: true")
    launch_and_follow(page, deployed)
    page.goto(f"/assets/{deployed.repository.image('tools/shell')}.released?view=events")
    page.get_by_role("link", name="Release", exact=True).click()
    expect(page.locator(".CodeMirror-code").first).to_contain_text("outside_window:")
    released = launch_and_follow(page, deployed)
    context.close()
    assert deployed.site.tags(released)["aml-images/signed-in"] == "ada"
    latest = Reference(deployed.production.host, f"public{SUFFIX}/shell", "latest")
    assert deployed.production.digest(latest) is not None
    assert {record["who"] for record in deployed.command("releases")} == {"ada"}


def test_a_failed_build_is_told_once_and_leaves_nothing(deployed: Deployed) -> None:
    wait_for(lambda: deployed.site.ticks("notifications"), "the first tick of the sensor")
    image = deployed.change("apps/hello", "echo no >&2; exit 3\n")
    run_id = deployed.site.build(images=[image])
    assert deployed.site.ended(run_id)["status"] == "FAILURE"
    (channel, title, message) = wait_for(lambda: deployed.messages.messages, "a message")[0]
    assert channel == "operators"
    assert "failed" in title
    assert f"{deployed.site.url}/runs/{run_id}" in message
    build = deployed.command("builds")[0]["build"]
    deployed.nothing_is_left(build)
    assert len(deployed.messages.messages) == 1


@pytest.mark.parametrize("parts", [("daemon", "backup"), ("webserver", "webserver-read-only", "proxy")], ids="+".join)
def test_a_build_goes_on_while_others_are_restarted(deployed: Deployed, parts: tuple[str, ...]) -> None:
    run_id, build = deployed.start_sleeping_build(20)
    deployed.compose("restart", *parts)
    assert deployed.site.ended(run_id)["status"] == "SUCCESS"
    assert deployed.command("status", build)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("part", "how", "seconds", "statuses"),
    [
        ("staging", "restart", 20, {"SUCCESS", "FAILURE"}),
        ("postgres", "restart", 20, {"SUCCESS", "FAILURE"}),
        ("code", "restart", 60, {"FAILURE"}),  # which waits for runs for half a minute
        ("code", "kill", 20, {"FAILURE"}),
    ],
)
def test_a_build_ends_and_leaves_nothing_when_what_it_needs_is_restarted(
    deployed: Deployed, part: str, how: str, seconds: int, statuses: set[str]
) -> None:
    run_id, build = deployed.start_sleeping_build(seconds)
    deployed.compose(how, part)
    if how == "kill":
        deployed.compose("start", part)  # what a person has stopped, Docker does not restart
    status = deployed.site.ended(run_id)["status"]
    assert status in statuses
    if status != "SUCCESS":
        deployed.nothing_is_left(build)
    wait_for(deployed.site.is_loaded, "the code location is loaded")
    image = deployed.change("apps/other", "echo running\n")
    assert deployed.site.ended(deployed.site.build(images=[image]))["status"] == "SUCCESS"


def test_everything_is_healthy_and_backed_up(deployed: Deployed) -> None:
    states = [json.loads(line) for line in deployed.compose("ps", "--all", "--format", "json").splitlines()]
    assert {state["State"] for state in states} == {"running"}
    assert {state["Health"] for state in states} <= {"healthy", ""}
    *_, backup = sorted((deployed.folder.parents[1] / "backups").iterdir())
    assert {file.name for file in backup.iterdir()} == {"dagster.dump", "artifacts.tar"}
