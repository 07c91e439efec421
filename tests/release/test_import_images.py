"""The shell package of a drop, unpacked and run as the release system does, with a command `az` that writes down
what it is asked and points to a registry: it refuses to import to a tag that is there unless it is forced."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.records import AttachedArtifact, StagedPlatform, TestedImage
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.release.drop import drop_files
from aml_images_dagster.release.drop_script import import_images
from aml_images_dagster.release.import_cfg import import_cfg
from aml_images_dagster.release.release_files import publish
from tests.emulators.az import install
from tests.indexes import push_index
from tests.release.conftest import House, digests

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.release.release_json import ReleaseJson
    from tests.conftest import PushNewImage

REGISTRY_ID = "/subscriptions/0/resourceGroups/g/providers/Microsoft.ContainerRegistry/registries/staging"
PASSWORD = "correct-horse-battery"

AZ = """
import fcntl, json, pathlib, sys
here = pathlib.Path(__file__).parent
one_at_a_time = (here / "lock").open("w")
fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
with (here / "asked.jsonl").open("a") as asked:
    asked.write(json.dumps(sys.argv[1:]) + "\\n")
state = here / "registry.json"
tags = json.loads(state.read_text()) if state.exists() else {}
def option(name):
    return sys.argv[sys.argv.index(name) + 1]
if sys.argv[1] == "login":
    sys.exit(0)
if sys.argv[1:3] == ["acr", "import"]:
    digest = option("--source").partition("@")[2]
    image = option("--image") if "--image" in sys.argv else option("--repository") + "@" + digest
    refused = (here / "refuse").read_text() if (here / "refuse").exists() else ""
    if refused and refused in image:
        sys.exit("ERROR: refused")
    if image in tags and "--force" not in sys.argv and "@" not in image:
        sys.exit("ERROR: Tag already exists")
    tags[image] = digest
    state.write_text(json.dumps(tags))
elif sys.argv[1:4] == ["acr", "manifest", "show-metadata"]:
    if (here / "fault").exists():
        sys.exit((here / "fault").read_text())
    repository, at, digest = option("--name").partition("@")
    if not at and repository not in tags:
        sys.exit('ERROR: manifest tagged by "' + repository.rpartition(":")[2] + '" is not found.')
    if at and not any(name.startswith(repository) and its == digest for name, its in tags.items()):
        sys.exit('ERROR: manifest unknown: MANIFEST_UNKNOWN')
    digest = digest or tags[repository]
    tagged = [name for name in tags if name.startswith(repository + ":") and tags[name] == digest]
    ours = [name.rpartition(":")[2] for name in tagged]
    print(json.dumps({"digest": digest, "tags": ours}[option("--query")]))
else:
    sys.exit("ERROR: unknown command")
"""


class Rollout:
    """The unpacked shell package, and a registry behind `az`."""

    def __init__(self, folder: Path, package: bytes) -> None:
        self.package = folder / "package"
        self.bin = folder / "bin"
        self.bin.mkdir()
        with tarfile.open(fileobj=io.BytesIO(package)) as tar:
            tar.extractall(self.package)
        (self.bin / "az.py").write_text(AZ)
        (self.bin / "az").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{self.bin}/az.py" "$@"\n')
        (self.bin / "az").chmod(0o755)

    def run(self, **environment: str) -> subprocess.CompletedProcess[str]:
        known = {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PRODUCTION_REGISTRY": "production",
            "STAGING_REGISTRY_ID": REGISTRY_ID,
            "STAGING_CLIENT_ID": "someone",
            "STAGING_CLIENT_SECRET": PASSWORD,
        }
        return subprocess.run(
            ["/bin/bash", "import.sh"],
            cwd=self.package,
            env={name: value for name, value in (known | environment).items() if value},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def asked(self) -> list[list[str]]:
        log = self.bin / "asked.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @property
    def imports(self) -> list[list[str]]:
        return [command for command in self.asked if command[:2] == ["acr", "import"]]

    @property
    def tags(self) -> dict[str, str]:
        state = self.bin / "registry.json"
        tags: dict[str, str] = json.loads(state.read_text()) if state.exists() else {}
        return tags

    def serve(self, tags: dict[str, str]) -> None:
        (self.bin / "registry.json").write_text(json.dumps(tags))

    def refuse(self, image: str) -> None:
        (self.bin / "refuse").write_text(image)

    def change(self, name: str, change: Any) -> None:
        path = self.package / name
        path.write_text(change(path.read_text()))


@pytest.fixture
def rollout(tmp_path: Path, release: ReleaseJson) -> Rollout:
    return Rollout(tmp_path, drop_files(release, import_cfg(release.images))["ServiceGroupRoot/import.tar"])


ALL_TAGS = {
    "public/azureml/debian12:20261123.v1": f"sha256:{'1' * 64}",
    "public/azureml/debian12:latest": f"sha256:{'1' * 64}",
    "public/azureml/cuda13:20261123.v1": f"sha256:{'2' * 64}",
    "public/azureml/cuda13:latest": f"sha256:{'2' * 64}",
}


def test_by_digest_release_tags_first_and_latest_last(rollout: Rollout) -> None:
    done = rollout.run()
    assert done.returncode == 0, done.stderr
    assert rollout.tags == ALL_TAGS
    shared = ["acr", "import", "--name", "production", "--registry", REGISTRY_ID]
    debian, cuda = f"base@sha256:{'1' * 64}", f"base-gpu@sha256:{'2' * 64}"
    assert sorted(rollout.imports[:2]) == [
        [*shared, "--source", cuda, "--image", "public/azureml/cuda13:20261123.v1"],
        [*shared, "--source", debian, "--image", "public/azureml/debian12:20261123.v1"],
    ]
    assert rollout.imports[2:] == [
        [*shared, "--source", debian, "--image", "public/azureml/debian12:latest", "--force"],
        [*shared, "--source", cuda, "--image", "public/azureml/cuda13:latest", "--force"],
    ]
    assert rollout.asked[0] == ["login", "--identity", "--output", "none"]


def with_evidence(release: ReleaseJson) -> ReleaseJson:
    """The same, with an SBOM and its signature at the first image."""
    image, *others = release.images
    sbom, signature = (f"sha256:{number * 64}" for number in "ab")
    attached = (
        AttachedArtifact(kind="application/spdx+json", digest=sbom, subject=image.staging.digest),
        AttachedArtifact(kind="application/vnd.cncf.notary.signature", digest=signature, subject=sbom),
    )
    return release.model_copy(update={"images": (image.model_copy(update={"evidence": attached}), *others)})


def test_what_is_attached_comes_between_the_release_tags_and_latest_the_signature_first(
    tmp_path: Path, release: ReleaseJson
) -> None:
    release = with_evidence(release)
    rollout = Rollout(tmp_path, drop_files(release, import_cfg(release.images))["ServiceGroupRoot/import.tar"])
    assert rollout.run().returncode == 0
    sources = [command[command.index("--source") + 1] for command in rollout.imports]
    assert sources[2:4] == [f"base@sha256:{'b' * 64}", f"base@sha256:{'a' * 64}"]
    assert all("--repository" in command for command in rollout.imports[2:4])
    assert all("latest" in command[command.index("--image") + 1] for command in rollout.imports[4:])


def test_latest_stays_when_what_is_attached_cannot_be_imported(tmp_path: Path, release: ReleaseJson) -> None:
    release = with_evidence(release)
    rollout = Rollout(tmp_path, drop_files(release, import_cfg(release.images))["ServiceGroupRoot/import.tar"])
    rollout.refuse("a" * 64)
    done = rollout.run()
    assert done.returncode == 1
    assert f"import of public/azureml/debian12@sha256:{'a' * 64} failed" in done.stderr
    assert not [name for name in rollout.tags if name.endswith(":latest")]
    rollout.refuse("nothing")
    assert rollout.run().returncode == 0
    assert set(ALL_TAGS) <= set(rollout.tags)


def test_no_password_anywhere(rollout: Rollout) -> None:
    done = rollout.run()
    assert PASSWORD not in json.dumps(rollout.asked) + done.stdout + done.stderr
    assert "--password" not in json.dumps(rollout.asked)


def test_latest_stays_when_a_release_tag_fails_and_the_next_run_goes_on(rollout: Rollout) -> None:
    rollout.refuse("cuda13:2026")
    done = rollout.run()
    assert done.returncode == 1
    assert "import of public/azureml/cuda13:20261123.v1 failed" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(rollout.tags) == ["public/azureml/debian12:20261123.v1"]
    rollout.refuse("")
    assert rollout.run().returncode == 0
    assert rollout.tags == ALL_TAGS
    assert rollout.run().returncode == 0


def test_a_release_tag_that_stands_for_something_else_is_never_moved(rollout: Rollout) -> None:
    taken = {"public/azureml/debian12:20261123.v1": "sha256:other"}
    rollout.serve(taken)
    assert rollout.run().returncode == 1
    assert rollout.tags == taken


@pytest.mark.parametrize(
    "fault",
    [
        "ERROR: Please run 'az login' to setup account.",
        "ERROR: 429 TOOMANYREQUESTS",
        "ERROR: The resource with name 'production' could not be found in subscription 's'.",
    ],
)
def test_a_registry_that_cannot_be_asked_is_not_taken_for_an_empty_one(rollout: Rollout, fault: str) -> None:
    (rollout.bin / "fault").write_text(fault)
    done = rollout.run()
    assert done.returncode == 1
    assert f"is not known: {fault}" in done.stderr
    assert "Traceback" not in done.stderr
    assert rollout.imports == []


@pytest.mark.parametrize("answer", ["NAME_UNKNOWN", "MANIFEST_UNKNOWN", "the specified tag does not exist"])
def test_what_says_that_there_is_no_such_tag(rollout: Rollout, answer: str) -> None:
    (rollout.bin / "fault").write_text(f"ERROR: {answer}")
    rollout.run()
    assert rollout.imports != []


@pytest.mark.parametrize("newer", ["20261123.v2", "20261123.v10", "20261124.v1"])
def test_latest_is_never_taken_back(rollout: Rollout, newer: str) -> None:
    served = {f"public/azureml/cuda13:{tag}": "sha256:newer" for tag in (newer, "latest", "another")}
    rollout.serve(served)
    done = rollout.run()
    assert done.returncode == 1
    assert f"public/azureml/cuda13:latest is {newer}, which is newer" in done.stderr
    assert rollout.tags == served


@pytest.mark.parametrize("older", ["20261122.v9", "another"])
def test_latest_moves_on_from_an_older_release(rollout: Rollout, older: str) -> None:
    served = {f"public/azureml/cuda13:{tag}": "sha256:older" for tag in (older, "latest")}
    rollout.serve(served)
    assert rollout.run().returncode == 0
    assert rollout.tags == served | ALL_TAGS


def test_an_az_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "az").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for limit in ("ASK_SECONDS", "IMPORT_SECONDS"):
        monkeypatch.setattr(import_images, limit, 0.2)
    production = import_images._AzureProduction("production", "staging")
    image = import_images.Tested("base", f"sha256:{'1' * 64}", ("public/a:v1",))
    with pytest.raises(import_images.ImportRefused, match=r"az acr manifest show-metadata .* has not ended after"):
        production.digest("public/a:v1")
    with pytest.raises(import_images.ImportRefused, match=r"az acr import .* run the rollout again"):
        production.bring(image, "public/a:v1", replace=False)


def test_files_that_disagree_import_nothing(rollout: Rollout) -> None:
    rollout.change("import.cfg", lambda text: text.replace("base-gpu:cuda13", "base-gpu:cuda14"))
    done = rollout.run()
    assert done.returncode == 1
    assert "which is not in release.json: the drop is damaged" in done.stderr
    assert rollout.imports == []


@pytest.mark.parametrize("name", ["import.cfg", "release.json"])
@pytest.mark.parametrize("damage", ["cut off", "another shape", "gone"])
def test_a_damaged_drop_is_told_and_imports_nothing(rollout: Rollout, name: str, damage: str) -> None:
    if damage == "gone":
        (rollout.package / name).unlink()
    else:
        rollout.change(name, lambda text: text[: len(text) // 2] if damage == "cut off" else '{"version": 1}')
    done = rollout.run()
    assert done.returncode == 1
    assert "the drop is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert rollout.imports == []


@pytest.mark.parametrize("name", ["PRODUCTION_REGISTRY", "STAGING_REGISTRY_ID"])
def test_what_the_release_system_did_not_say(rollout: Rollout, name: str) -> None:
    done = rollout.run(**{name: ""})
    assert done.returncode == 1
    assert f"{name} is not set" in done.stderr
    assert "Traceback" not in done.stderr
    assert rollout.imports == []


@pytest.mark.engine
def test_the_drop_of_a_real_build_into_a_real_registry(
    tmp_path: Path, house: House, complete_build: Callable[..., ReleaseJson]
) -> None:
    release = complete_build("apps/hello", "apps/other", "tools/shell")
    drop = house.backends.artifacts.build(release.build).root / "drop"
    rollout = Rollout(tmp_path, (drop / "ServiceGroupRoot" / "import.tar").read_bytes())
    install(rollout.bin)
    registries = {"production": house.backends.production.host, REGISTRY_ID: house.backends.staging.host}
    done = rollout.run(AZ_REGISTRIES=json.dumps(registries))
    assert done.returncode == 0, done.stderr
    wanted = digests(release, latest=False) | digests(release, latest=True)
    assert {name: house.served(name) for name in wanted} == wanted
    assert house.ledger.records() == ()
    record = house.releaser().release(release).record
    assert {change.name: (change.before, change.after) for change in record.changes} == {
        name: (digest, digest) for name, digest in wanted.items()
    }


@pytest.mark.engine
def test_the_drop_of_an_index_brings_all_its_images(
    tmp_path: Path, house: House, staged_build: Callable[..., BuildSession], push_new_image: PushNewImage
) -> None:
    session = staged_build("tools/shell")
    (name,) = session.images
    staged, staging = session.folder.read_staged(name), session.backends.staging
    assert staged is not None
    tag = Reference.parse(staged.reference)
    arm64 = push_new_image(tag.repository, "arm64")
    images = {"linux/amd64": tag.with_digest(staged.digest), "linux/arm64": arm64.with_digest(arm64.digest)}
    index = push_index(staging, images, tag)  # type: ignore[arg-type]
    platforms = tuple(
        StagedPlatform(platform=platform, digest=image.digest, size_bytes=1, layers=1, notices={})
        for platform, image in images.items()
    )
    session.folder.write_staged(staged.model_copy(update={"digest": index.digest, "platforms": platforms}))
    session.folder.write_tested(TestedImage(image=name, digest=index.digest, scenarios=(), untested=()))
    release = publish(session).release
    assert [(each.platform, each.tested) for each in release.images[0].platforms] == [
        ("linux/amd64", False),
        ("linux/arm64", False),
    ]
    drop = session.folder.root / "drop"
    rollout = Rollout(tmp_path, (drop / "ServiceGroupRoot" / "import.tar").read_bytes())
    install(rollout.bin)
    registries = {"production": house.backends.production.host, REGISTRY_ID: house.backends.staging.host}
    done = rollout.run(AZ_REGISTRIES=json.dumps(registries))
    assert done.returncode == 0, done.stderr
    for destination in release.images[0].destinations:
        repository, _, version = destination.rpartition(":")
        there = images_of(house.backends.production, Reference(house.backends.production.host, repository, version))
        assert {platform: each.digest for platform, each in there.items()} == {
            platform: image.digest for platform, image in images.items()
        }


@pytest.mark.parametrize("said", ["", "garbage", '"garbage"', "5", "[]", "{}", "[" * 100_000])
def test_c10_what_az_answers_is_no_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    (tmp_path / "said").write_text(said)
    (tmp_path / "az").write_text(f'#!/bin/sh\ncat "{tmp_path}/said"\n')
    (tmp_path / "az").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    production = import_images._AzureProduction("production", "staging")
    with pytest.raises(import_images.ImportRefused, match="what public/a:v1 points to is not known"):
        production.digest("public/a:v1")


@pytest.mark.parametrize("digest", ["sha256:1", "latest", "garbage"])
def test_c10_a_drop_with_a_digest_that_is_none_imports_nothing(rollout: Rollout, digest: str) -> None:
    rollout.change("release.json", lambda text: text.replace(f"sha256:{'1' * 64}", digest))
    done = rollout.run()
    assert done.returncode == 1
    assert f"release.json has '{digest}' as the digest of " in done.stderr
    assert "Traceback" not in done.stderr
    assert rollout.imports == []
