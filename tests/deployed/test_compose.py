"""deploy/compose really runs: a build and a release behind the sign-in, a message, each part restarted in mid-build."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import expect

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.oci import OciRegistry
from tests.deployed.site import Scene, Site, wait_for
from tests.emulators.message_service import MessageService
from tests.image_repository import ImageRepository

if TYPE_CHECKING:
    from collections.abc import Iterator

    import docker
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.engine, pytest.mark.deployed]

DEPLOY = Path(__file__).parents[2] / "deploy"
PASSWORD = secrets.token_hex(8)
SUFFIX = "-compose"
NOTIFICATIONS = """\
owners: {others: operators}
rules:
  - {events: [build_failed], to: [owners]}
"""
PORTS = (
    "PGPORT",
    "AML_IMAGES_CODE_PORT",
    "AML_IMAGES_WEBSERVER_PORT",
    "AML_IMAGES_READ_ONLY_PORT",
    "STAGING_PORT",
    "PRODUCTION_PORT",
    "SITE_PORT",
)


def free_ports(number: int) -> list[int]:
    probes = [socket.socket() for _ in range(number)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@dataclass(kw_only=True)
class Deployed(Scene):
    """What Compose runs.

    Attributes:
        folder: deploy/compose with .env, factory.env and users.
        messages: Gets what is notified.
        production: Its production registry.
        project: Of Compose.
    """

    folder: Path
    messages: MessageService
    production: OciRegistry
    project: str

    def compose(self, *arguments: str) -> str:
        """`docker compose` on its files."""
        command = ["docker", "compose", "--project-name", self.project, "--project-directory", str(self.folder)]
        done = subprocess.run(
            [*command, "--profile", "registries", *arguments], capture_output=True, text=True, check=False, timeout=570
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout

    def command(self, *arguments: str) -> Any:
        """What a command of the factory prints as JSON, inside of the code server's container."""
        return json.loads(self.compose("exec", "-T", "code", "aml-images", *arguments, "--json"))


def read_password_hash(image: str) -> str:
    command = ["docker", "run", "--rm", image, "caddy", "hash-password", "--plaintext", PASSWORD]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


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
    shutil.copytree(DEPLOY, root / "deploy")
    folder = root / "deploy" / "compose"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    site = f"http://127.0.0.1:{ports.pop('SITE_PORT')}"
    own = {name: f"127.0.0.1:{ports[f'{name}_PORT']}" for name in ("STAGING", "PRODUCTION")}
    repository = ImageRepository.create(root / "repository", own["STAGING"], own["PRODUCTION"], SUFFIX)
    repository.write(repository.root / "notifications.yaml", NOTIFICATIONS)
    repository.commit("who is notified")
    variables = {
        "AML_IMAGES_IMAGE": factory_image,
        "AML_IMAGES_REPOSITORY": repository.root,
        "AML_IMAGES_SITE": site,
        "AML_IMAGES_WRITERS": "ada",
        "AML_IMAGES_BACKUPS": root / "backups",
        "DOCKER_GROUP": Path("/var/run/docker.sock").stat().st_gid,
        "PGPASSWORD": secrets.token_hex(16),
        **ports,
        **stand_ins,
    }
    (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    (folder / "users").write_text(f"ada {read_password_hash(stand_ins['CADDY_IMAGE'])}\n")
    with MessageService() as messages:
        (folder / "factory.env").write_text(f"AML_IMAGES_NOTIFY_OPERATORS={messages.address('operators')}\n")
        registries = [OciRegistry(own[name]) for name in ("STAGING", "PRODUCTION")]
        project = f"aml-images-test-{secrets.token_hex(4)}"
        found = Deployed(
            Site(site, ("ada", PASSWORD)),
            repository,
            registries[0],
            engine_client,
            folder=folder,
            messages=messages,
            production=registries[1],
            project=project,
        )
        try:
            found.compose("up", "--detach", "--wait", "staging")
            wait_for(lambda: _answers(registries[0]), "the registry answers", 60)
            name = "mirror/docker.io/library/busybox"
            copy_image(staging, registries[0], busybox, name)
            registries[0].tag(Reference(registries[0].host, name, digest=busybox.digest), "latest")
            found.compose("up", "--detach", "--wait")
            wait_for(found.site.is_loaded, "the code location is loaded")
            yield found
        except BaseException:
            with suppress(AssertionError):
                (Path(os.environ.get("PYTEST_DEBUG_TEMPROOT", "/tmp")) / "compose.log").write_text(
                    found.compose("logs", "--no-color", "--tail", "200")
                )
            raise
        finally:
            found.compose("down", "--volumes", "--timeout", "10")


def _answers(registry: OciRegistry) -> bool:
    try:
        registry.repositories()
    except Unreachable:
        return False
    return True


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


@pytest.mark.parametrize(("part", "how"), [("staging", "restart"), ("postgres", "restart"), ("code", "kill")])
def test_a_build_ends_and_leaves_nothing_when_what_it_needs_is_restarted(
    deployed: Deployed, part: str, how: str
) -> None:
    run_id, build = deployed.start_sleeping_build(20)
    deployed.compose(how, part)
    if how == "kill":
        deployed.compose("start", part)  # what a person has stopped, Docker does not restart
    status = deployed.site.ended(run_id)["status"]
    assert status in (("FAILURE", "CANCELED") if part == "code" else ("SUCCESS", "FAILURE"))
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
