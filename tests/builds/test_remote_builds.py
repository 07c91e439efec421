"""Images of a build that ACR Tasks builds: staged by the same code, and cleaned even if the step was killed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.naming import build_number, release_tag_for
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.builds.steps.staging import stage, staged_by_digest
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.emulators.azure.acr_tasks import AcrTasks
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.clockwork import Clockwork
from tests.emulators.azure.machine_learning import MachineLearning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


@pytest.fixture
def tasks(cloud: EmulatedCloud) -> Iterator[AcrTasks]:
    blobs = cloud.start(BlobStorage(cloud))
    MachineLearning(cloud, blobs, Clockwork())  # the clean-up asks it for jobs
    tasks = AcrTasks(cloud, blobs)
    yield tasks
    tasks.agents.set()
    tasks.wait()


@pytest.fixture
def session(
    cloud: EmulatedCloud, tasks: AcrTasks, image_repository: ImageRepository, monkeypatch: pytest.MonkeyPatch
) -> BuildSession:
    """A build of tools/shell and of apps/hello FROM it."""
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AML_IMAGES_AZURE__LINUX_BUILDER", "acr-tasks")
    monkeypatch.setenv("AML_IMAGES_AZURE__TASK_POLL_SECONDS", "0.1")
    settings = load_settings(repo=image_repository.root)
    run_id, now = str(uuid.uuid4()), datetime.now(UTC)
    return BuildSession(
        number=build_number(run_id, now),
        run_id=run_id,
        created=now,
        release_tag=release_tag_for(now, None, None),
        images=frozenset(image_repository.image(image) for image in ("tools/shell", "apps/hello")),
        source=load_source(settings),
        settings=settings,
        backends=backends_for(settings),
    )


def test_an_image_and_one_from_it_are_staged(
    session: BuildSession, tasks: AcrTasks, image_repository: ImageRepository
) -> None:
    shell, hello = (stage(session, image_repository.image(name), print) for name in ("tools/shell", "apps/hello"))
    assert [base.digest for base in hello.bases] == [shell.digest]
    assert (hello.os, hello.architecture) == ("linux", "amd64")
    assert hello.notices == {"/LICENSE.txt": True, "/ThirdPartyNotices.txt": True}
    labels = session.backends.staging.config(staged_by_digest(session, hello))["config"]["Labels"]
    assert labels["org.opencontainers.image.title"] == hello.image
    assert [run.status for run in tasks.runs.values()] == ["Succeeded"] * 2


def test_the_run_of_a_step_that_was_killed_is_ended_by_the_cleanup(
    session: BuildSession, tasks: AcrTasks, image_repository: ImageRepository
) -> None:
    name = image_repository.image("tools/shell")
    reference = session.staging_reference(session.image(name))
    session.begin()
    tasks.agents.clear()
    with pytest.raises(BuildFailed):
        stage(session, name, lambda line: session.folder.finish("failed") if line.startswith("run ca1") else None)
    tasks.runs["ca1"].status = "Running"  # as if nobody had been left to cancel it
    report = cleanup(session.number, session.backends, "failed")
    assert report.clean
    assert tasks.runs["ca1"].status == "Canceled"
    tasks.agents.set()
    tasks.wait()
    assert session.backends.staging.digest(reference) is None
