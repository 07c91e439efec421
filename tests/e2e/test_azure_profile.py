"""A whole build and its release in the profile azure, by configuration alone, beside the same build in `local`.

The command line and Dagster in their own processes, the real SDKs over HTTPS, a real registry behind each emulated one,
real containers behind the emulated workspace.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.identity.credential import Credential
from aml_images_dagster.registry.acr import AcrLogins
from aml_images_dagster.registry.copy import copy_image
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.job_containers import JobContainers
from tests.emulators.azure.machine_learning import MachineLearning

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.engine.interface import RegistryLogin
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

PASSWORD = "correct-horse-battery-staple"
TWO_NODES = {"name": "two-nodes", "nodes": 2, "distribution": "pytorch"}
FAILS = {"name": "fails", "script": "fails.py"}


def open_workspace(cloud: EmulatedCloud, before_job: Callable[[], None] = lambda: None) -> MachineLearning:
    """A workspace whose jobs really run what staging serves to its own identity."""
    logins = AcrLogins(Credential(), f"{cloud.staging.audience}/.default", [cloud.staging.host])

    def login() -> RegistryLogin | None:
        before_job()
        return logins(cloud.staging.host)

    cloud.environment["AML_IMAGES_AZURE__JOB_POLL_SECONDS"] = "0.5"
    return MachineLearning(cloud, cloud.start(BlobStorage(cloud)), JobContainers(login))


@pytest.fixture
def workspace(cloud: EmulatedCloud) -> MachineLearning:
    return open_workspace(cloud)


def add_scenario(repository: ImageRepository, image: str, scenario: dict[str, object]) -> None:
    path = repository.folder(image) / "tests.json"
    tests = json.loads(path.read_text())
    tests["scenarios"].append(tests["scenarios"][0] | scenario)
    path.write_text(json.dumps(tests))


def shape(document: Any) -> Any:
    """Keys and kinds of values, without the values."""
    if isinstance(document, dict):
        return {key: shape(value) for key, value in document.items()}
    if isinstance(document, list):
        return [shape(document[0])] if document else []
    return type(document).__name__


def documents(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    release, imported = (json.loads((folder / name).read_text()) for name in ("release.json", "import.cfg"))
    return release, imported


def serves(registry: OciRegistry, reference: Reference) -> str | None:
    """What a registry serves under the repository and tag of a reference."""
    return registry.digest(Reference(registry.host, reference.repository, reference.tag))


def test_the_same_build_as_in_the_profile_local_and_its_release(
    repository: ImageRepository, staging: OciRegistry, cloud: EmulatedCloud, workspace: MachineLearning
) -> None:
    add_scenario(repository, "apps/hello", TWO_NODES)
    repository.commit("a scenario on two nodes")
    local = repository.json("build", "--all")
    azure = repository.json("build", "--all", "--release-num", "1", **cloud.environment)
    assert (local["status"], azure["status"]) == ("succeeded", "succeeded")

    theirs, ours = (documents(repository.artifacts / build["build"]) for build in (local, azure))
    assert shape(ours) == shape(theirs)
    for host, registry, (release, imported) in (
        (staging.host, staging, theirs),
        (cloud.staging.host, cloud.staging.plain, ours),
    ):
        for image, entry in zip(release["images"], imported, strict=True):
            reference = Reference.parse(image["staging"]["reference"])
            assert reference.registry == host
            assert serves(registry, reference) == image["staging"]["digest"]
            assert entry["source"]["imageName"] == str(reference)
            assert {test["status"] for test in image["tests"]} == {"passed"}
    release = ours[0]
    alone = repository.image("apps/other").partition("/")[2]
    for same in (
        lambda document: [image["destinations"] for image in document["images"]],
        lambda document: [image["content_key"] for image in document["images"] if image["name"] == alone],
    ):
        assert same(release) == same(theirs[0])
    assert sorted(job.nodes for job in workspace.jobs.values()) == [1, 1, 1, 2]
    assert {job.status for job in workspace.jobs.values()} == {"Completed"}
    assert {job.image.partition("@")[2] for job in workspace.jobs.values()} == {
        image["staging"]["digest"] for image in release["images"]
    }

    refuse_when_a_tag_has_moved(repository, cloud, azure["build"], release["images"])

    released = repository.run("release", azure["build"], **cloud.environment)
    assert released.returncode == 0, released.stdout + released.stderr
    names = [(image, name) for image in release["images"] for name in image["destinations"]]
    for image, name in names:
        there = Reference.parse(f"{cloud.production.host}/{name}")
        assert serves(cloud.production.plain, there) == image["staging"]["digest"]
    asked = [json.loads(request.body) for request in imports(cloud)]
    modes = [(each["mode"], each["targetTags"]) for each in asked if "targetTags" in each]
    attached = [each for each in asked if "untaggedTargetRepositories" in each]
    assert len(attached) == sum(len(image["evidence"]) for image in release["images"])
    assert modes == sorted(modes, key=lambda mode: mode[0] == "Force")  # latest moves last of all
    assert [tags[0].endswith(":latest") for mode, tags in modes if mode == "Force"] == [True] * len(release["images"])
    again = repository.run("release", azure["build"], **cloud.environment)
    assert again.returncode == 0, again.stdout + again.stderr
    assert len(imports(cloud)) == len(names) + len(attached)


def imports(cloud: EmulatedCloud) -> list[Any]:
    return cloud.arm.requests("POST", "importImage")


def refuse_when_a_tag_has_moved(
    repository: ImageRepository, cloud: EmulatedCloud, build: str, images: list[dict[str, Any]]
) -> None:
    """Somebody moves a staged tag after the test; it is moved back in the end."""
    registry = cloud.staging.plain
    one, other = images[0]["staging"], images[1]["staging"]
    tag = Reference.parse(one["reference"])
    from_other = Reference(registry.host, Reference.parse(other["reference"]).repository, digest=other["digest"])
    copy_image(registry, registry, from_other, tag.repository, [tag.tag])
    refused = repository.run("release", build, **cloud.environment)
    assert refused.returncode == 2, refused.stdout + refused.stderr
    assert f"{one['digest']} was tested" in refused.stderr
    assert imports(cloud) == []
    registry.tag(Reference(registry.host, tag.repository, digest=one["digest"]), tag.tag)


def test_a_failing_scenario_leaves_nothing(
    repository: ImageRepository, cloud: EmulatedCloud, workspace: MachineLearning
) -> None:
    (repository.root / "checks" / "fails.py").write_text("echo loss is rising >&2; exit 3\n")
    (repository.root / "checks" / "runs.py").write_text("exec sleep 600\n")
    add_scenario(repository, "apps/other", FAILS)
    done = repository.run("build", repository.image("apps/other"), **cloud.environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "loss is rising" in done.stderr
    assert cloud.staging.plain.tags(repository.families["apps"]) == []
    assert sorted(job.status for job in workspace.jobs.values()) == ["Canceled", "Failed"]
    (build,) = repository.json("builds", **cloud.environment)
    folder = repository.artifacts / build["build"]
    assert not [name for name in ("release.json", "import.cfg", "drop") if (folder / name).exists()]


def test_artifacts_in_azure_blob(repository: ImageRepository, cloud: EmulatedCloud, workspace: MachineLearning) -> None:
    """One build that is complete and released, and one that fails; nothing is kept on this machine."""
    blobs = workspace.blobs
    blobs.create("factory")
    account = {"AML_IMAGES_ARTIFACTS": "az://factory/builds", "AML_IMAGES_AZURE__STORAGE_ACCOUNT": blobs.host}
    environment = {**cloud.environment, **account}
    image = repository.image("apps/other")

    def kept(build: str) -> set[str]:
        prefix = f"builds/{build}/"
        return {name.removeprefix(prefix) for name in blobs.containers["factory"] if name.startswith(prefix)}

    built = repository.json("build", image, **environment)
    assert built["status"] == "succeeded"
    files = {"build.json", "run_information.json", "release.json", "import.cfg", "drop/import.cfg", "drop/SHA256SUMS"}
    assert files <= kept(built["build"])
    assert not repository.artifacts.exists()
    released = repository.run("release", built["build"], **environment)
    assert released.returncode == 0, released.stdout + released.stderr
    assert "builds/releases/000002.json" in blobs.containers["factory"]

    (repository.root / "checks" / "runs.py").write_text("echo loss is rising >&2; exit 3\n")
    done = repository.run("build", image, **environment)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    failed, complete = repository.json("builds", **environment)
    assert [(one["build"], one["status"]) for one in (complete, failed)] == [
        (built["build"], "succeeded"),
        (failed["build"], "failed"),
    ]
    assert kept(failed["build"]) & files == {"build.json", "run_information.json"}
    assert "cleanup.json" in kept(failed["build"])
    assert [tag.rpartition("--")[2] for tag in cloud.staging.plain.tags(repository.families["apps"])] == [
        built["build"]
    ]


def test_tokens_that_end_in_the_middle_and_a_storm_of_429(repository: ImageRepository, cloud: EmulatedCloud) -> None:
    cloud.identity.life_seconds = 20
    open_workspace(cloud, before_job=cloud.staging.end_all_tokens)
    for service, paths in (
        (cloud.staging, ("/oauth2/exchange", "/manifests/", "/blobs/uploads", "/_tags")),
        (cloud.arm, ("/jobs", "/environments", "/codes")),
    ):
        for path in paths:
            service.fail(429, path=path, times=2, retry_after=1)
    built = repository.json("build", repository.image("apps/other"), **cloud.environment)
    assert built["status"] == "succeeded"
    assert len(cloud.identity.issued) > 5
    assert all(fault.times == 0 for fault in cloud.arm.faults)
    assert sum(line.status == 429 for line in cloud.staging.exchanges()) >= 4


def test_no_secret_is_told_to_anybody(
    repository: ImageRepository, cloud: EmulatedCloud, workspace: MachineLearning
) -> None:
    """Everything that a build and its release write down or print, with logging as loud as it can be."""
    loud = repository.root.parent / "loud"
    repository.write(
        loud / "sitecustomize.py", "import logging\nlogging.basicConfig(level=logging.DEBUG, force=True)\n"
    )
    path = os.pathsep.join(filter(None, (str(loud), os.environ.get("PYTHONPATH"))))
    cloud.staging.accounts["puller"] = PASSWORD
    account = {"STAGING_CLIENT_ID": "puller", "STAGING_CLIENT_SECRET": PASSWORD}
    environment = {**cloud.environment, **account, "AML_IMAGES_AZURE__IMPORT_BY": "password", "PYTHONPATH": path}
    told: list[bytes] = []

    def run(*arguments: str) -> str:
        process = repository.start(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, out + err
        assert "DEBUG:" in err
        told.extend((out.encode(), err.encode()))
        return out

    build = json.loads(run("build", repository.image("apps/other"), "--json"))
    assert build["commit"] == repository.git("rev-parse", "HEAD")
    run("release", build["build"])
    assert json.loads(imports(cloud)[0].body)["source"]["credentials"]["password"] == PASSWORD
    told += [path.read_bytes() for path in (repository.root / ".aml-images").rglob("*") if path.is_file()]
    tokens = [*cloud.identity.issued, *cloud.staging.tokens, *cloud.production.tokens]
    assert len(tokens) > 10
    # The end of a token is what nobody can guess.
    secrets = [PASSWORD, cloud.identity.secret, *(token.rpartition(".")[2] for token in tokens)]
    assert [secret for secret in secrets if any(secret.encode() in text for text in told)] == []
