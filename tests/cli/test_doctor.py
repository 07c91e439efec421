"""`aml-images doctor`: one row per fault, each with what fixes it; never a traceback, never endless."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.azure.clockwork import Clockwork
from tests.emulators.azure.machine_learning import MachineLearning
from tests.emulators.faulty_registry import Fault, FaultyRegistry

if TYPE_CHECKING:
    from tests.emulators.azure.cloud import EmulatedCloud
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

NOWHERE = "127.0.0.1:9"


def faults(repository: ImageRepository, *arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
    """The faults that doctor shows, by what was checked."""
    done = repository.run("doctor", "--json", *arguments, **environment)
    assert done.stdout, done.stderr
    checks = json.loads(done.stdout)["checks"]
    found = {check["name"]: check for check in checks if not check["ok"]}
    failed = [check for check in found.values() if not check["images"] or is_blocked(checks)]
    assert done.returncode == (1 if failed else 0), done.stderr
    assert all(check["hint"] == check["mend"] != "" for check in found.values())
    assert not done.stderr
    return found


def is_blocked(checks: list[dict[str, Any]]) -> bool:
    """Whether no image can be built."""
    every = {image for check in checks for image in check["images"]}
    return every == {image for check in checks if not check["ok"] for image in check["images"]}


def test_all_is_well(image_repository: ImageRepository) -> None:
    done = image_repository.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "All checks passed." in done.stdout
    for name in ("git", "image folders", "Linux builder", "staging registry", "production registry", "artifacts store"):
        assert name in done.stdout
    assert not image_repository.artifacts.exists() or not list(image_repository.artifacts.iterdir())


def test_a_machine_that_only_releases_needs_no_engine_and_no_bases(image_repository: ImageRepository) -> None:
    away = {"AML_IMAGES_DOCKER_HOST": "tcp://127.0.0.1:9", "AML_IMAGES_BASE_MIRRORS": f"docker.io={NOWHERE}/mirror"}
    checked = image_repository.json("doctor", "--for", "release", **away)["checks"]
    names = {check["name"] for check in checked}
    assert {"staging registry", "production registry", "artifacts store", "image folders"} < names
    assert {"Linux builder", "tests", "signing key", "base busybox"}.isdisjoint(names)
    assert {"Linux builder", "tests"} <= faults(image_repository, "--for", "build", **away).keys()


@pytest.mark.parametrize(
    ("setting", "value", "name", "said"),
    [
        ("PARALEL", "3", "settings", "no such setting: AML_IMAGES_PARALEL"),
        ("STAGING_REGISTRY", NOWHERE, "staging registry", "does not answer"),
        ("PRODUCTION_REGISTRY", NOWHERE, "production registry", "does not answer"),
        ("DOCKER_HOST", "tcp://127.0.0.1:9", "Linux builder", "does not answer"),
        ("MIN_FREE_GB", "1000000", "Linux builder", "nearly full"),
        ("WINDOWS_DOCKER_HOST", "unix:///var/run/docker.sock", "Windows builder", "builds linux images"),
        ("BASE_MIRRORS", f"docker.io={NOWHERE}/mirror", "base busybox", "can't be resolved"),
        ("DOCKER_FILES_PATH", "absent", "image folders", "absent"),
        ("ARTIFACTS", "pyproject.toml/below", "artifacts store", "cannot be written"),
    ],
)
def test_a_broken_setting_is_one_fault(
    image_repository: ImageRepository, setting: str, value: str, name: str, said: str
) -> None:
    found = faults(image_repository, **{f"AML_IMAGES_{setting}": value})
    # An engine that is away is missed by both who need it.
    expected = [name, "tests"] if setting == "DOCKER_HOST" else [name]
    assert [one for one in found if not one.startswith("base ")] == ([] if name.startswith("base ") else expected)
    assert said in found[name]["found"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [("AML_IMAGES_NOSUCH", "docs/configuration.md"), ("AML_IMAGES_STAGING_REGISTRI", "AML_IMAGES_STAGING_REGISTRY?")],
)
def test_an_unknown_variable_is_compared_with_what_can_be_set(
    image_repository: ImageRepository, name: str, meant: str
) -> None:
    (fault,) = faults(image_repository, **{name: "1"}).values()
    assert meant in fault["hint"]
    assert "OPEN_SOURCE" not in fault["hint"]


def test_only_what_an_image_needs(image_repository: ImageRepository) -> None:
    image_repository.write_image("apps/elsewhere", f"FROM {NOWHERE}/nothing:1\n")
    elsewhere = image_repository.image("apps/elsewhere")
    assert list(faults(image_repository, elsewhere)) == [f"base {NOWHERE}/nothing:1"]
    assert faults(image_repository, image_repository.image("apps/hello")) == {}
    assert image_repository.run("doctor", "apps/absent").returncode == 2


def test_images_that_cannot_be_built_here_are_one_line_and_no_failure(image_repository: ImageRepository) -> None:
    """One on a base that nobody serves, what is built on it, and one for Windows, whose base is not asked for."""
    elsewhere, windows = (image_repository.image(f"apps/{name}") for name in ("elsewhere", "windows"))
    image_repository.write_image("apps/elsewhere", f"FROM {NOWHERE}/nothing:1\n")
    image_repository.write_image("apps/upon", "FROM registry.example/elsewhere\n")
    image_repository.write_image("apps/windows", "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n")
    done = image_repository.run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        f"3 images cannot be built here, for lack of base {NOWHERE}/nothing:1, Windows builder. "
        "`aml-images doctor IMAGE` shows why.\nAll other checks passed.\n"
    ) in done.stdout
    assert "servercore" not in done.stdout
    assert "failed" not in done.stdout
    found = faults(image_repository)
    assert found[f"base {NOWHERE}/nothing:1"]["images"] == [elsewhere, image_repository.image("apps/upon")]
    assert found["Windows builder"]["images"] == [windows]
    image_repository.write(image_repository.folder("apps/upon") / "Dockerfile", "FRUM busybox\n")
    done = image_repository.run("doctor")
    assert done.returncode == 0, done.stdout
    assert "for lack of image folder images/apps" in done.stdout
    named = image_repository.run("doctor", windows)
    assert named.returncode == 1
    assert "Windows builder" in named.stdout
    broken = image_repository.run("doctor", AML_IMAGES_PRODUCTION_REGISTRY=NOWHERE)
    assert broken.returncode == 1
    assert "(setting production_registry)" in broken.stdout.replace("\n", " ")


def test_every_fault_is_shown_at_once(image_repository: ImageRepository) -> None:
    shutil.rmtree(image_repository.root / ".git")
    home = image_repository.root / ".aml-images" / "dagster"
    image_repository.write(home / "dagster.yaml", "storage: nothing\n")
    broken = {"STAGING_REGISTRY": NOWHERE, "PRODUCTION_REGISTRY": NOWHERE, "DOCKER_HOST": "unix:///nowhere.sock"}
    environment = {f"AML_IMAGES_{name}": value for name, value in broken.items()}
    done = image_repository.run("doctor", **environment)
    assert done.returncode == 1
    assert "Traceback" not in done.stdout + done.stderr
    rows = [line for line in done.stdout.splitlines() if line.lstrip().startswith("failed")]
    assert [row.split("  ")[1].strip() for row in rows][:1] == ["git"]
    assert set(faults(image_repository, **environment)) >= {
        "git",
        "Linux builder",
        "staging registry",
        "production registry",
        "Dagster",
    }


def test_what_does_not_answer_is_not_waited_for(image_repository: ImageRepository) -> None:
    with FaultyRegistry("127.0.0.1:5001") as silent:
        silent.faults.append(Fault("hang"))
        started = time.monotonic()
        found = faults(image_repository, "--seconds", "3", AML_IMAGES_PRODUCTION_REGISTRY=silent.host)
        assert time.monotonic() - started < 20
    assert found["production registry"]["found"] == "no answer within 3 s"


def test_settings_that_cannot_be_read_are_a_message(image_repository: ImageRepository) -> None:
    done = image_repository.run("doctor", AML_IMAGES_PROFILE="lunar")
    assert done.returncode == 2
    assert "AML_IMAGES_PROFILE (environment)" in done.stderr
    assert "Traceback" not in done.stderr


class TestAzure:
    """The same in the profile azure."""

    @pytest.fixture
    def environment(self, cloud: EmulatedCloud) -> dict[str, str]:
        return cloud.environment

    def test_not_signed_in(
        self, image_repository: ImageRepository, cloud: EmulatedCloud, environment: dict[str, str]
    ) -> None:
        cloud.identity.available = False
        found = faults(image_repository, **environment)
        assert "not signed in to Azure" in found["identity"]["found"]
        assert "az login" in found["identity"]["hint"]

    @pytest.mark.parametrize("forbidden", ["registries/production", "importImage"])
    def test_no_right_to_import(
        self, image_repository: ImageRepository, cloud: EmulatedCloud, environment: dict[str, str], forbidden: str
    ) -> None:
        """Also of an identity that may see the registry and not import into it."""
        cloud.arm.fail(403, path=forbidden, times=None)
        assert (
            "Give this identity the role" in faults(image_repository, **environment)["import into production"]["hint"]
        )
        assert "import into production" not in faults(image_repository, "--for", "build", **environment)

    def test_the_compute_of_the_tests(
        self, image_repository: ImageRepository, cloud: EmulatedCloud, environment: dict[str, str]
    ) -> None:
        MachineLearning(cloud, cloud.start(BlobStorage(cloud)), Clockwork())
        assert "tests" not in faults(image_repository, **environment)
        path = image_repository.folder("apps/other") / "tests.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"compute": "gpu-cluster"}))
        assert "has no compute 'gpu-cluster'" in faults(image_repository, **environment)["tests"]["found"]
        del environment["AML_IMAGES_AZURE__COMPUTE"]
        assert "no compute is named" in faults(image_repository, **environment)["tests"]["found"]

    def test_no_right_to_build_remotely(
        self, image_repository: ImageRepository, cloud: EmulatedCloud, environment: dict[str, str]
    ) -> None:
        cloud.arm.fail(403, path="listBuildSourceUploadUrl", times=None)
        found = faults(image_repository, **environment, AML_IMAGES_AZURE__LINUX_BUILDER="acr-tasks")
        assert "Container Registry Tasks Contributor" in found["Linux builder"]["hint"]

    def test_the_registry_does_not_know_this_identity(
        self, image_repository: ImageRepository, cloud: EmulatedCloud, environment: dict[str, str]
    ) -> None:
        cloud.staging.known = False
        assert "staging registry" in faults(image_repository, **environment)
