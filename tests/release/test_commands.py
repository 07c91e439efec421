"""What a release engineer reads at the command line."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.release.release_json import ReleaseJson

pytestmark = pytest.mark.engine

IMAGES = ("apps/hello", "tools/shell")


def said(house: House, *arguments: str, code: int = 0, **environment: str) -> str:
    """What a command prints, all white space alike."""
    done = house.repository.run(*arguments, COLUMNS="200", **environment)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_a_dry_run_a_release_a_roll_back_and_a_withdrawal(
    house: House, complete_build: Callable[..., ReleaseJson]
) -> None:
    first, second = (complete_build(*IMAGES, tag=tag, age=timedelta(hours=age)) for tag, age in (("v1", 2), ("v2", 1)))
    image = house.repository.image("tools/shell")
    assert "is released as v1" in said(house, "release", first.build)
    dry_run = said(house, "release", second.build, "--dry-run")
    assert "Dry run: 4 of 4 tags would change. Nothing was changed." in dry_run
    assert f"{image}: not tested" in dry_run
    assert house.latest(first) == digests(first, latest=True)
    released = said(house, "release", second.build)
    assert f"build {second.build} is released as v2" in released
    assert "was released already" in said(house, "release", second.build)
    assert "Dry run: :latest would be v1. Nothing was changed." in said(house, "rollback", image, "--dry-run")
    short = image.partition("/")[2]
    assert f":latest of {image} is v1 again" in said(house, "rollback", short, "--reason", "it is broken")
    again = said(house, "rollback", image, "--to", "v1")
    assert f":latest of {image} already is that release: nothing was changed." in again
    gone = ("withdraw", image, "v2", "--reason", "a hole")
    assert f"{image} v2 would be removed. Nothing was changed." in said(house, *gone, "--dry-run")
    assert f"{image} v2 is withdrawn; the image stays available" in said(house, *gone)
    assert f"{image} v2 is already withdrawn: nothing was changed." in said(house, *gone)
    assert f"Did you mean {image}" in said(house, "rollback", image[:-1], code=2)
    assert f"Did you mean {image}" in said(house, "releases", image[:-1], code=2)
    history = house.repository.json("releases", short)
    assert [(record["action"], record["release_tag"], record["reason"]) for record in history] == [
        ("withdrawal", "v2", "a hole"),
        ("rollback", "v1", "it is broken"),
        ("release", "v2", ""),
        ("release", "v1", ""),
    ]
    assert "it is broken" in said(house, "releases")
    narrow = house.repository.run("releases", COLUMNS="80").stdout
    assert second.build in narrow, "what people copy is not broken into lines"


def test_for_programs(house: House, complete_build: Callable[..., ReleaseJson]) -> None:
    first, second = (complete_build("tools/shell", tag=tag, age=timedelta(hours=1)) for tag in ("v1", "v2"))
    image = house.repository.image("tools/shell")
    plan = house.repository.json("release", first.build, "--dry-run")
    assert (plan["lacks"], plan["must_wait"]) == ({image: "not tested"}, "")
    for build in (first, second):
        record = house.repository.json("release", build.build)
        assert (record["build"], record["promotion"]) == (build.build, {"late": [], "wrong": []})
    assert house.repository.json("rollback", image, "--dry-run")["release_tag"] == "v1"
    assert house.repository.json("rollback", image)["action"] == "rollback"
    assert house.repository.json("rollback", image, "--to", "v1") == {"image": image, "changes": []}
    gone = ("withdraw", image, "v2", "--reason", "a hole")
    (change,) = house.repository.json(*gone, "--dry-run")["changes"]
    assert (change["tag"], change["after"]) == ("v2", None)
    assert house.repository.json(*gone)["action"] == "withdrawal"


def test_a_dry_run_says_that_a_release_must_wait(house: House, complete_build: Callable[..., ReleaseJson]) -> None:
    release = complete_build("tools/shell")
    windows = {"AML_IMAGES_RELEASE__WINDOWS": f"{datetime.now(UTC) - timedelta(days=1):%a} 00:00-24:00"}
    assert "A release must wait: it is" in said(house, "release", release.build, "--dry-run", **windows)
    assert "releases start" in said(house, "release", release.build, code=2, **windows)
    assert house.ledger.records() == ()


def test_a_release_is_done_although_what_follows_cannot_be_told(
    house: House, complete_build: Callable[..., ReleaseJson]
) -> None:
    release = complete_build("tools/shell")
    out = said(house, "release", release.build, "--docker-files-path", "nowhere")
    assert f"build {release.build} is released" in out
    assert "cannot say which images are FROM it" in out
    assert house.latest(release) == digests(release, latest=True)


def test_show_says_what_production_serves(house: House, complete_build: Callable[..., ReleaseJson]) -> None:
    image = house.repository.image("tools/shell")
    first, second = (
        complete_build("tools/shell", tag=tag, age=timedelta(hours=age)) for tag, age in (("v1", 2), ("v2", 1))
    )

    def served() -> tuple[str, str, bool]:
        release = house.repository.json("show", image)["release"]
        assert f"{release['tag']}, build {release['build']}, " in said(house, "show", image)
        return release["tag"], release["build"], release["completed"]

    for build in (first, second):
        house.releaser().release(build)
    assert served() == ("v2", second.build, True)
    said(house, "rollback", image)
    assert served() == ("v1", first.build, True), "it was rolled back"
    said(house, "withdraw", image, "v2", "--reason", "a hole")
    assert served() == ("v1", first.build, True), "what is withdrawn is not its release"
    said(house, "rollback", image, "--to", "v1")
    third = complete_build("tools/shell", tag="v3")
    house.releaser().release(third)
    last = house.ledger.folder / f"{house.ledger.records()[-1].number:06}.json"
    last.unlink()  # as if it had been killed when all its tags had moved
    assert served() == ("v3", third.build, False)
    assert "not completed" in said(house, "show", image)


def test_a_withdrawal_names_no_way_that_is_not_open(house: House, complete_build: Callable[..., ReleaseJson]) -> None:
    """Of the only release, and where two releases are one image."""
    image = house.repository.image("tools/shell")
    first = complete_build("tools/shell", tag="v1", age=timedelta(hours=2))
    house.releaser().release(first)
    hint = f":latest points to {image} v1 It has no earlier release with another image: release another build first."
    assert hint in said(house, "withdraw", image, "v1", "--reason", "a hole", code=2)
    again = complete_build("tools/shell", tag="v2", age=timedelta(hours=1))
    house.releaser().release(again)
    told = said(house, "withdraw", image, "v2", "--reason", "a hole", code=2)
    assert f"Run `aml-images rollback {image}` first, or release another build." in told
    said(house, "rollback", image)


def test_a_release_that_a_person_interrupts_says_which_tags_are_there(
    house: House, production: OciRegistry, complete_build: Callable[..., ReleaseJson]
) -> None:
    release = complete_build(*IMAGES)
    with FaultyRegistry(production.host) as front:
        house.move_production(front.host)
        front.faults.append(Fault("hang", "PUT", "/manifests/latest", times=1))
        process = house.repository.start("release", release.build)
        deadline = time.monotonic() + 60
        while not any("/manifests/latest" in path for method, path in front.seen if method == "PUT"):
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Traceback" not in told
    assert f"the release of build {release.build} was interrupted: 2 of its 4 tags are there:" in told
    for name in digests(release, latest=False):
        assert name in told
    assert f"Run `aml-images release {release.build}` again: it continues where it stopped." in told
    (shown,) = house.repository.json("builds", "--released")
    assert shown["release"] == "release not completed"
