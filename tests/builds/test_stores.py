"""Artifacts stores that earlier versions have written, as `stores/make.py` made them: this version reads them."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import LATEST, Ledger
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.release.rollback import roll_back
from tests.image_repository import ImageRepository
from tests.release.memory import MemoryWorld

if TYPE_CHECKING:
    from aml_images_dagster.builds.ledger import ReleaseRecord

STORES = sorted((Path(__file__).parent / "stores").glob("*.tar.gz"))


@pytest.fixture
def repository(tmp_path: Path) -> ImageRepository:
    return ImageRepository.create(tmp_path / "repository")


@pytest.fixture(params=STORES, ids=lambda path: path.name)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a store."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "artifacts"


@pytest.fixture
def other(store: Path) -> str:
    """The image that was released twice, taken back, built again, and did not pass at last."""
    (image,) = {change.image for change in records(store)[-1].changes}
    return image


def records(store: Path) -> tuple[ReleaseRecord, ...]:
    return Ledger(Artifacts(str(store))).records()


def test_there_is_one() -> None:
    assert STORES


def test_commands_show_what_is_in_it(repository: ImageRepository, store: Path, other: str) -> None:
    own = {"AML_IMAGES_ARTIFACTS": str(store)}
    # The catalog of that version, as far as it counts here.
    family, _, name = other.partition("/")
    repository.write(repository.root / "images" / family / name / "Dockerfile", "FROM busybox\n")

    builds = repository.json("builds", **own)
    assert [build["status"] for build in builds] == ["failed", "succeeded", "succeeded", "succeeded"]
    done = repository.json("releases", **own)
    assert [record["action"] for record in done] == ["rollback", "release", "release"]
    assert {record["who"] for record in done} == {"ada"}
    # Production does not answer here, so the release that it serves is unknown.
    assert [b["build"] for b in repository.json("show", other, **own)["builds"]] == [b["build"] for b in builds]
    failed, *succeeded = [repository.json("status", build["build"], **own) for build in builds]
    assert failed["failure"]["message"]
    assert all(build["images"] for build in succeeded)
    for command in (("builds",), ("releases", other), ("show", other), ("status", builds[0]["build"])):
        shown = repository.run(*command, **own)
        assert (shown.returncode, shown.stderr) == (0, ""), command


def test_the_next_rollback_and_release_go_on_from_it(store: Path, other: str) -> None:
    world = MemoryWorld(store.parent)
    for record in records(store):
        for change in record.changes if record.done else ():
            assert change.after is not None
            world.production.put(change.repository, change.tag, change.after)
    first, second = [record for record in records(store) if record.done and record.action == "release"]
    latest = f"{world.production.host}/{first.change(other, LATEST).repository}:latest"  # type: ignore[union-attr]

    def served() -> str | None:
        return world.production.digest(Reference.parse(latest))

    back = served()
    assert back == first.change(other, LATEST).after  # type: ignore[union-attr]
    done = roll_back(other, second.release_tag, "it was not", world.backends, world.settings, "ada", print)
    assert done is not None
    assert done.number == len(records(store))
    assert served() == second.change(other, LATEST).after  # type: ignore[union-attr]
    roll_back(other, "", "it was", world.backends, world.settings, "ada", print)
    assert served() == back


@pytest.mark.parametrize("name", ["build.json", "releases/000001.json"])
def test_what_a_newer_version_has_written_is_one_message(repository: ImageRepository, store: Path, name: str) -> None:
    build = records(store)[0].build
    path = store / name if "/" in name else store / build / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {"novelty": 1}))
    with pytest.raises(BadInput, match="a newer version has written it, and this one does not understand: novelty"):
        if name == "build.json":
            Artifacts(str(store)).build(build).read_build()
        else:
            records(store)
    command = ("status", build) if name == "build.json" else ("releases",)
    done = repository.run(*command, AML_IMAGES_ARTIFACTS=str(store))
    assert done.returncode == 2
    assert "novelty" in done.stderr
    assert "Traceback" not in done.stderr
