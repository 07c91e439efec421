"""Publishing a build: complete or not at all, and only what was tested."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import BuildFolder
from aml_images_dagster.builds.records import BuildStatus, TestedImage
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.release.drop import write_drop
from aml_images_dagster.release.release_files import publish

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from upath import UPath

    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.reference import Reference
    from tests.image_repository import ImageRepository

    NewSession = Callable[..., BuildSession]

pytestmark = pytest.mark.engine


@pytest.fixture
def session(staged_build: NewSession) -> BuildSession:
    """A build whose two images are staged and tested."""
    return staged_build("apps/other", "tools/shell")


def published(session: BuildSession) -> list[str]:
    return [name for name in ("release.json", "import.cfg", "drop") if (session.folder.root / name).exists()]


def test_a_complete_build(session: BuildSession) -> None:
    publish(session)
    assert published(session) == ["release.json", "import.cfg", "drop"]
    root = session.folder.root
    for name in ("release.json", "import.cfg"):
        assert (root / name).read_bytes() == (root / "drop" / name).read_bytes()
    release = json.loads((root / "release.json").read_text())
    assert [f"{image['family']}/{image['name']}" for image in release["images"]] == sorted(session.images)
    for image in release["images"]:
        repository = session.settings.production_names.format(name=image["name"])
        assert image["destinations"] == [f"{repository}:{session.release_tag}", f"{repository}:latest"]
    record = session.folder.read_build()
    assert record is not None
    assert record.status == "succeeded"


@pytest.mark.parametrize("missing", ["staged", "tested"])
def test_an_image_that_is_missing(session: BuildSession, image_repository: ImageRepository, missing: str) -> None:
    (session.folder.image(image_repository.image("apps/other")) / f"{missing}.json").unlink()
    with pytest.raises(BuildFailed, match=f"was not {missing} by build"):
        publish(session)
    assert published(session) == []


@pytest.mark.parametrize("how", ["moved", "gone"])
def test_a_tag_that_moved_after_the_test(
    session: BuildSession,
    image_repository: ImageRepository,
    push_new_image: Callable[[str, str], Reference],
    how: str,
) -> None:
    image = session.image(image_repository.image("apps/other"))
    reference = session.staging_reference(image)
    if how == "moved":
        push_new_image(image.family, reference.tag)
    else:
        session.backends.staging.delete(reference)
    with pytest.raises(BuildFailed, match="the tag serves") as failed:
        publish(session)
    assert failed.value.where == str(reference)
    assert published(session) == []


def test_something_else_was_tested(session: BuildSession, image_repository: ImageRepository) -> None:
    name = image_repository.image("apps/other")
    session.folder.write_tested(TestedImage(image=name, digest=f"sha256:{'0' * 64}", scenarios=()))
    with pytest.raises(BuildFailed, match="but the tag serves"):
        publish(session)
    assert published(session) == []


@pytest.mark.parametrize("status", ["failed", "canceled"])
def test_a_build_that_is_cleaned_up_is_not_published(session: BuildSession, status: str) -> None:
    session.folder.finish(status)  # type: ignore[arg-type]
    with pytest.raises(BuildFailed, match="was stopped: its status is"):
        publish(session)
    assert published(session) == []


def test_a_build_that_is_cleaned_up_while_it_is_published(
    session: BuildSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cleaned_up(folder: UPath, drop: Mapping[str, bytes]) -> None:
        write_drop(folder, drop)
        session.folder.finish("canceled")
        session.folder.remove_release_files()

    monkeypatch.setattr("aml_images_dagster.release.release_files.write_drop", cleaned_up)
    with pytest.raises(BuildFailed, match="was stopped: its status is"):
        publish(session)
    assert published(session) == []
    record = session.folder.read_build()
    assert record is not None
    assert record.status == "canceled"


def test_a_build_that_is_cleaned_up_right_before_it_has_succeeded(
    session: BuildSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = BuildFolder.finish

    def cleaned_up(folder: BuildFolder, status: BuildStatus) -> None:
        finish(folder, "canceled")
        folder.remove_release_files()
        finish(folder, status)

    monkeypatch.setattr(BuildFolder, "finish", cleaned_up)
    with pytest.raises(BuildFailed, match="was stopped: its status is"):
        publish(session)
    assert published(session) == []
    record = session.folder.read_build()
    assert record is not None
    assert record.status == "canceled"


def test_a_build_of_nothing(new_session: NewSession) -> None:
    with pytest.raises(BuildFailed, match="there is no image in this build"):
        publish(new_session())


def test_a_build_of_a_pull_request_is_never_published(new_session: NewSession) -> None:
    session = new_session("apps/other", pull_request="12")
    with pytest.raises(BuildFailed, match="for pull request 12, which is never released"):
        publish(session)
    assert not (session.folder.root / "release.json").exists()
