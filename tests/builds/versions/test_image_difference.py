"""What changed between two versions of an image, read from a registry in memory and a real git repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.records import BaseImage
from aml_images_dagster.builds.versions.difference_markdown import (
    as_markdown,
    sections,
    short_sections,
    vulnerabilities_left,
)
from aml_images_dagster.builds.versions.image_difference import ImageComparison, ImageDifference, package_rows, summary
from aml_images_dagster.builds.versions.image_versions import ImageVersion
from aml_images_dagster.settings import load_settings
from tests.image_repository import ImageRepository
from tests.records import staged_image
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info
from tests.vulnerabilities.trivy_program import TrivyProgram, finding

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.reference import Reference

IMAGE = "apps/hello"
OLD = {"var/lib/dpkg/status": deb("libssl3", "3.0.15-1", Source="openssl") + deb("openssl", "3.0.15-1")}
NEW = {"var/lib/dpkg/status": deb("libssl3", "3.0.17-1", Source="openssl") + deb("openssl", "3.0.17-1")}


@pytest.fixture
def images(tmp_path: Path) -> ImageRepository:
    return ImageRepository.create(tmp_path / "repository")


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def trivy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrivyProgram:
    return TrivyProgram.on_path(tmp_path / "trivy", monkeypatch)


def compare(images: ImageRepository, older: ImageVersion, newer: ImageVersion) -> ImageDifference:
    return ImageComparison(load_settings(repo=images.root)).compare(IMAGE, older, newer)


def version(name: str, registry: MemoryRegistry, reference: Reference, commit: str = "", **staged: Any) -> ImageVersion:
    record = staged_image(IMAGE, "20261126.aaaaaaaa", **staged) if staged else None
    return ImageVersion(name, registry, reference, "20261126.aaaaaaaa", commit, record)


def test_packages_layers_and_sizes(images: ImageRepository, registry: MemoryRegistry) -> None:
    base = {"etc/os-release": "ID=debian\nVERSION_ID=12\n"}
    older = version("v1", registry, registry.push(base, OLD))
    history = [{"created_by": "base"}, {"created_by": "ENV A=1", "empty_layer": True}, {"created_by": "RUN  apt-get"}]
    newer = version("v2", registry, registry.push(base, NEW, history=history))

    found = compare(images, older, newer)

    (platform,) = found.platforms
    assert [(each.name, each.before, each.after) for each in platform.packages] == [
        ("libssl3", ("3.0.15-1",), ("3.0.17-1",)),
        ("openssl", ("3.0.15-1",), ("3.0.17-1",)),
    ]
    assert [(layer.created_by, layer.is_new) for layer in platform.layers] == [("base", False), ("RUN apt-get", True)]
    assert platform.new_bytes == platform.layers[1].size_bytes
    assert platform.after_bytes == registry.size_bytes(newer.reference)
    (row,) = package_rows(platform.packages)["deb"]
    assert (row.name, row.packages, row.before, row.after) == (
        "openssl",
        ("libssl3", "openssl"),
        "3.0.15-1",
        "3.0.17-1",
    )
    assert summary(found) == f"packages: 2 changed; {platform.new_bytes} B of new layers"
    assert "| `openssl (2 packages)` | `3.0.15-1` | `3.0.17-1` |" in as_markdown(found)


def test_vulnerabilities_that_are_fixed_new_and_left(
    images: ImageRepository, registry: MemoryRegistry, trivy: TrivyProgram
) -> None:
    older, newer = (version(f"v{n}", registry, registry.push(files)) for n, files in ((1, OLD), (2, NEW)))
    old = {"InstalledVersion": "3.0.15-1", "FixedVersion": "3.0.16-1"}
    trivy.finds(
        older.digest,
        *(finding("CVE-2026-900", name, VendorIDs=["DSA-6000-1"], **old) for name in ("openssl", "libssl3")),
        finding("CVE-2026-10000", "libssl3", **old),
        finding("CVE-2026-7", "openssl"),
    )
    trivy.finds(newer.digest, finding("CVE-2026-7", "openssl"), finding("CVE-2026-8", "openssl", FixedVersion="4"))

    found = ImageComparison(load_settings(repo=images.root)).compare(IMAGE, older, newer, scanned=True)

    assert found.vulnerabilities is not None
    fixed, new, left = (
        {each.id for each in several}
        for several in (found.vulnerabilities.fixed, found.vulnerabilities.new, found.vulnerabilities.left)
    )
    assert (fixed, new) == ({"CVE-2026-900", "CVE-2026-10000"}, {"CVE-2026-8"})
    assert left == {"CVE-2026-7", "CVE-2026-8"}
    assert summary(found).endswith("; vulnerabilities: 2 fixed, 1 new (trivy)")
    for text in (as_markdown(found), "\n".join(short_sections(found))):
        assert "**Vulnerabilities fixed: 2**" in text
        assert "| `openssl` | `3.0.15-1` | `3.0.17-1` | `CVE-2026-900` (`DSA-6000-1`), `CVE-2026-10000` |" in text
        assert "| `CVE-2026-8` | `openssl` | - | `4` | high |" in text
        assert "Vulnerability sources: trivy." in text
    assert "**Vulnerabilities left without a fix: 1**\n\n`CVE-2026-7`" in list(
        vulnerabilities_left(found.vulnerabilities)
    )
    document = found.document()
    assert [each["id"] for each in document["vulnerabilities"]["new"]] == ["CVE-2026-8"]


def test_a_source_that_looked_at_one_of_the_two_makes_nothing_fixed_or_new(
    images: ImageRepository, registry: MemoryRegistry, trivy: TrivyProgram
) -> None:
    older, newer = (version(f"v{n}", registry, registry.push(files)) for n, files in ((1, OLD), (2, NEW)))
    trivy.knows_no_other()
    trivy.finds(newer.digest, finding("CVE-2026-8", "openssl"))

    found = ImageComparison(load_settings(repo=images.root)).compare(IMAGE, older, newer, scanned=True)

    assert found.vulnerabilities is not None
    assert (found.vulnerabilities.fixed, found.vulnerabilities.new) == ((), ())
    assert [each.id for each in found.vulnerabilities.left] == ["CVE-2026-8"]
    assert "vulnerabilities: not known; trivy has not looked at the older image: it failed: no database" in summary(
        found
    )
    said = "Vulnerability sources: trivy. trivy has not looked at the older image: `it failed: no database`."
    assert said in as_markdown(found)


def test_what_requirements_name_counts_as_of_both_commits(images: ImageRepository, registry: MemoryRegistry) -> None:
    requirements = images.folder(IMAGE) / "requirements.txt"
    images.write(requirements, "pandas\n")
    before = images.commit("pandas")
    images.write(requirements, "numpy\n")
    after = images.commit("numpy")
    packages = [("pandas", "2.3", "3.1"), ("numpy", "1.26", "2.0"), ("six", "1.0", "2.0")]
    was = {path: text for name, old, _ in packages for path, text in dist_info(name, old).items()}
    now = {path: text for name, _, new in packages for path, text in dist_info(name, new).items()}

    found = compare(
        images,
        version("v1", registry, registry.push(was), before),
        version("v2", registry, registry.push(now), after),
    )

    assert [str(each) for each in found.major] == ["numpy 1.26 → 2.0", "pandas 2.3 → 3.1"]
    assert found.remarks == ()


def test_commits_of_the_folder_and_of_what_it_is_built_from(images: ImageRepository, registry: MemoryRegistry) -> None:
    before = images.git("rev-parse", "HEAD")
    images.write(images.folder("tools/shell") / "greeting", "hi\n")
    images.commit("Another greeting")
    images.write(images.folder("apps/other") / "python", "#!/bin/sh\n")
    images.commit("The folder of another image")
    images.write(images.folder(IMAGE) / "more", "\n")
    after = images.commit("More of it")
    image = registry.push(OLD)
    older, newer = version("v1", registry, image, before), version("v2", registry, image, f"{after}-dirty")

    found = compare(images, older, newer)

    assert [commit.subject for commit in found.commits] == ["More of it", "Another greeting"]
    assert (after[:12] in as_markdown(found), "More of it" in as_markdown(found)) == (True, True)
    assert "More of it" not in "".join(sections(found, public_bases=()))
    back = compare(images, newer, older)
    assert (back.commits, back.remarks) == ((), ("v1 lacks 2 commits of v2: it is of another branch, or older",))
    by_one = compare(images, newer, version("v1.1", registry, image, images.git("rev-parse", f"{after}~1")))
    assert by_one.remarks == ("v1.1 lacks 1 commit of v2: it is of another branch, or older",)


def test_bases_and_dockerfiles_of_the_builds(images: ImageRepository, registry: MemoryRegistry) -> None:
    def bases(digit: str) -> tuple[BaseImage, ...]:
        return (BaseImage(reference="debian:12", digest=f"sha256:{digit * 64}"),)

    image = registry.push(OLD)
    older = version("v1", registry, image, bases=bases("1"), dockerfile="FROM debian:12\nRUN a\n")
    newer = version("v2", registry, image, bases=bases("2"), dockerfile="FROM debian:12\nRUN b\n")

    found = compare(images, older, newer)

    assert [(base.reference, base.before[-1], base.after[-1]) for base in found.bases] == [("debian:12", "1", "2")]
    assert found.dockerfile.splitlines() == [
        "--- Dockerfile of v1",
        "+++ Dockerfile of v2",
        "@@ -1,2 +1,2 @@",
        " FROM debian:12",
        "-RUN a",
        "+RUN b",
    ]


def test_where_the_bytes_of_a_base_come_from_is_no_change_of_the_dockerfile(
    images: ImageRepository, registry: MemoryRegistry
) -> None:
    def built(name: str, host: str, digit: str) -> ImageVersion:
        bases = (BaseImage(reference="registry.example/shell:latest", digest=f"sha256:{digit * 64}"),)
        dockerfile = f"FROM --platform=linux/amd64 {host}/shell@{bases[0].digest} AS one\nRUN a\n"
        return version(name, registry, image, bases=bases, dockerfile=dockerfile)

    image = registry.push(OLD)
    staged, released = built("v1", "staging.example", "1"), built("v2", "production.example/public", "1")
    updated = built("v3", "staging.example", "2")

    assert compare(images, staged, released).dockerfile == ""
    assert compare(images, released, updated).dockerfile == ""
    assert [base.reference for base in compare(images, released, updated).bases] == ["registry.example/shell:latest"]


def test_a_platform_that_is_gone_breaks_users(images: ImageRepository, registry: MemoryRegistry) -> None:
    amd64, arm64 = registry.push(OLD), registry.push(OLD, architecture="arm64")
    entries = [
        {"platform": {"os": "linux", "architecture": name}, "digest": one.digest, "size": 1}
        for name, one in (("amd64", amd64), ("arm64", arm64))
    ]
    both = registry.push_index(*entries)

    gone = compare(images, version("v1", registry, both), version("v2", registry, amd64))
    came = compare(images, version("v1", registry, amd64), version("v2", registry, both))

    assert [str(each) for each in gone.major] == ["platform linux/arm64 is gone"]
    assert came.major == ()
    assert "platform linux/arm64 is new" in came.remarks


def test_a_commit_that_is_not_here_is_named(images: ImageRepository, registry: MemoryRegistry) -> None:
    image = registry.push(OLD)
    found = compare(images, version("v1", registry, image), version("v2", registry, image, "c" * 40))
    assert [remark.partition(", so")[0] for remark in found.remarks] == [
        "v1: its commit is not known",
        f"v2: commit {'c' * 12} is not here",
    ]


def test_bars_and_backticks_do_not_break_a_table(images: ImageRepository, registry: MemoryRegistry) -> None:
    history = [{"created_by": "RUN a | b `c`"}]
    older, newer = registry.push(OLD), registry.push(NEW, history=history)
    text = as_markdown(compare(images, version("v1", registry, older), version("v2", registry, newer)))
    assert "| `` RUN a \\| b `c` `` |" in text


def test_the_document_for_programs(images: ImageRepository, registry: MemoryRegistry) -> None:
    was, now = (
        dist_info("x", "1") | {"etc/os-release": "ID=debian\nVERSION_ID=11\n"},
        OLD | {"etc/os-release": "ID=debian\nVERSION_ID=12\n"},
    )
    older, newer = registry.push(was), registry.push(now)
    document = compare(images, version("v1", registry, older), version("v2", registry, newer)).document()
    assert document["major"] == [
        {
            "text": "distribution debian 11 → debian 12",
            "component": "distribution",
            "before": "debian 11",
            "after": "debian 12",
        }
    ]
    assert document["platforms"][0]["packages"][0]["source"] == "openssl"
