"""`aml-images diff`: which versions it finds, and what it prints for people and for programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.builds.ledger import Ledger, TagChange
from tests.records import begun_release, build_record, staged_image, write_withdrawal
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb

if TYPE_CHECKING:
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine

OLD_BUILD, NEW_BUILD = "20261125.aaaaaaaa", "20261126.bbbbbbbb"


class Versions:
    """A release v1 that production serves, and a newer build in staging."""

    def __init__(self, images: ImageRepository, staging: OciRegistry, production: OciRegistry) -> None:
        self.images = images
        self.image = images.image("apps/other")
        self.artifacts = Artifacts(str(images.artifacts))
        family = self.image.partition("/")[0]
        repository = self.repository = f"public{family.removeprefix('apps')}/other"
        memory = MemoryRegistry()
        older = memory.push({"var/lib/dpkg/status": deb("libc6", "2.36-9", Source="glibc")})
        newer = memory.push({"var/lib/dpkg/status": deb("libc6", "2.40-1", Source="glibc")})
        self.older = memory.copy_to(production, repository, older, "latest")
        self.newer = memory.copy_to(staging, family, newer, f"other--{NEW_BUILD}")
        cleaned_up = self.newer.with_tag(f"other--{OLD_BUILD}")
        self.stage(OLD_BUILD, cleaned_up, self.older.digest)
        self.stage(NEW_BUILD, self.newer.with_tag(f"other--{NEW_BUILD}"), self.newer.digest)
        change = TagChange(image=self.image, repository=repository, tag="latest", before=None, after=self.older.digest)
        changes = (change.model_copy(update={"tag": "v1"}), change)
        about = {"changes": changes, "release_tag": "v1"}
        begun = Ledger(self.artifacts).append(begun_release(OLD_BUILD, **about))
        Ledger(self.artifacts).append(begun_release(OLD_BUILD, begun=begun.number, **about))

    def stage(self, build: str, tag: Reference, digest: str) -> None:
        folder = self.artifacts.build(build)
        day = f"{build[:4]}-{build[4:6]}-{build[6:8]}T00:00:00Z"
        folder.write_build(build_record(build, images=(self.image,), status="succeeded", created=day))
        folder.write_staged(staged_image(self.image, build, reference=str(tag), digest=digest))


@pytest.fixture
def versions(image_repository: ImageRepository, staging: OciRegistry, production: OciRegistry) -> Versions:
    return Versions(image_repository, staging, production)


def test_what_production_serves_against_the_newest_in_staging(versions: Versions) -> None:
    document = versions.images.json("diff", "other")
    assert (document["older"], document["newer"]) == ("v1", NEW_BUILD)
    assert [each["text"] for each in document["major"]] == ["glibc 2.36 → 2.40"]
    assert versions.images.json("diff", "other", "--format", "json") == document


def test_what_was_withdrawn_is_said(versions: Versions) -> None:
    assert versions.images.json("diff", "other")["withdrawn"] == []
    where = {"repository": versions.repository, "tag": "v2"}
    write_withdrawal(versions.artifacts, versions.image, versions.newer.digest, **where)
    shown = versions.images.run("diff", "other", COLUMNS="200").stdout
    assert shown.splitlines()[0] == f"{versions.image}: v1 → {NEW_BUILD}, withdrawn"
    markdown = versions.images.run("diff", "other", "v2", "v1", "--format", "markdown").stdout
    assert markdown.startswith(f"## {versions.image}: v2, withdrawn → v1\n")
    document = versions.images.json("diff", "other")
    assert (document["newer"], document["withdrawn"]) == (NEW_BUILD, [NEW_BUILD])


@pytest.mark.parametrize("older", ["v1", "latest", OLD_BUILD[:10], "digest", "part of a digest"])
def test_a_version_by_any_of_its_names(versions: Versions, older: str) -> None:
    digests = {"digest": versions.older.digest, "part of a digest": versions.older.digest[:19]}
    document = versions.images.json("diff", versions.image, digests.get(older, older), NEW_BUILD)
    assert (document["older_digest"], document["newer_digest"]) == (versions.older.digest, versions.newer.digest)


def test_for_people_and_on_a_narrow_terminal(versions: Versions) -> None:
    shown = versions.images.run("diff", versions.image, COLUMNS="200").stdout
    lines = [line.split() for line in shown.splitlines()]
    assert lines[0] == [f"{versions.image}:", "v1", "→", NEW_BUILD]
    assert ["may", "break", "users:", "glibc", "2.36", "→", "2.40"] in lines
    assert ["glibc", "2.36-9", "2.40-1"] in lines
    narrow = versions.images.run("diff", versions.image, COLUMNS="50", TTY_COMPATIBLE="1")
    assert (narrow.returncode, max(map(len, narrow.stdout.splitlines()[:4])) <= 50) == (0, True)


def test_as_markdown(versions: Versions) -> None:
    shown = versions.images.run("diff", versions.image, "--format", "markdown").stdout
    assert shown.startswith(f"## {versions.image}: v1 → {NEW_BUILD}\n\n**May break users**\n\n- `glibc 2.36 → 2.40`\n")
    assert "| `glibc` | `2.36-9` | `2.40-1` |" in shown


def test_a_build_of_a_pull_request_is_compared_only_if_it_is_named(versions: Versions) -> None:
    folder = versions.artifacts.build(NEW_BUILD)
    folder.write_build(build_record(NEW_BUILD, images=(versions.image,), status="partial", pull_request="7"))
    refused = versions.images.run("diff", versions.image)
    assert (refused.returncode, "staging has no image of it" in refused.stderr) == (2, True)
    assert versions.images.json("diff", versions.image, "latest", NEW_BUILD)["newer"] == NEW_BUILD


@pytest.mark.parametrize(
    ("older", "said"),
    [
        ("v7", "aml-images: IMAGE has no release and no build 'v7'"),
        ("2026112", "begin with '2026112'"),
        ("sha256:0000000", "begins with sha256:0000000"),
        (f"sha256:{'0' * 64}", "neither production nor staging has sha256:000000000000 any more"),
    ],
)
def test_a_version_that_there_is_not(versions: Versions, older: str, said: str) -> None:
    refused = versions.images.run("diff", versions.image, older)
    shown = " ".join(refused.stderr.split()).replace(versions.image, "IMAGE")
    assert (refused.returncode, said in shown) == (2, True), refused.stderr
