"""The public list of images: table, release notes, and the README of an image, from what is known of it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.builds.versions.image_difference import (
    BaseChange,
    ImageDifference,
    LayerChange,
    PlatformDifference,
)
from aml_images_dagster.builds.versions.release_notes import ReleaseNotes
from aml_images_dagster.catalog.tree import FileMode, WorkingTree
from aml_images_dagster.open_source.image_table import ListedImage, image_table, notes_page, pulled_as, without_versions
from aml_images_dagster.open_source.leak_check import LeakRules, check_for_leaks
from aml_images_dagster.open_source.public_part import PublicFile
from aml_images_dagster.open_source.syndication import image_readme
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust.difference import PackageChange, capabilities
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from tests.image_repository import ImageRepository
from tests.records import DIGEST
from tests.trust.images import MemoryRegistry
from tests.trust.test_inventory import deb, dist_info

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.settings import Settings

TODAY = date(2026, 11, 26)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(repo=ImageRepository.create(tmp_path / "repository").root)


def notes(tag: str, since: str = "", package: str = "lib0") -> ReleaseNotes:
    packages = (PackageChange("deb", package, package, ("1",), ("2",)),)
    layers = (LayerChange(DIGEST, 1, "RUN the private part", is_new=True),)
    platform = PlatformDifference("linux/amd64", packages, layers, 1, 2)
    bases = (BaseChange("busybox", DIGEST, DIGEST), BaseChange("secret.corp/base", DIGEST, DIGEST))
    found = ImageDifference(
        "tools/shell", since, tag, DIGEST, DIGEST, (), (platform,), bases, (), "-FROM a", ("no commit",)
    )
    when = datetime(2026, 11, 25, tzinfo=UTC)
    return ReleaseNotes(
        image="tools/shell",
        repository="public/shell",
        tag=tag,
        digest=DIGEST,
        released=when,
        build="20261125.aaaaaaaa",
        commit="c0ffee",
        who="somebody",
        reasons=("modified: Dockerfile.private",),
        accepted_major=(),
        since=since,
        difference=found if since else None,
    )


def listed(settings: Settings, *known: ReleaseNotes) -> ListedImage:
    image = load_catalog(settings, WorkingTree(settings.repo)).images["tools/shell"]
    return ListedImage(
        image, "registry.example/shell", ("v2", "latest"), "Debian 12", "busybox", "Python 3.11.2", known
    )


@pytest.mark.parametrize(
    ("published_as", "public_names", "expected"),
    [
        ("registry.example/{name}", "", "registry.example/shell"),
        ("registry.example/{family}:{name}*", "", "registry.example/tools"),
        ("127.0.0.1:5000/{family}:{name}", "", "127.0.0.1:5000/tools"),
        ("registry.example/{family}:{name}", "public.example/{family}-{name}", "public.example/tools-shell"),
    ],
)
def test_the_name_to_pull_has_no_tag(settings: Settings, published_as: str, public_names: str, expected: str) -> None:
    release = settings.release.model_copy(update={"public_names": public_names})
    settings = settings.model_copy(update={"published_as": (published_as,), "release": release})
    catalog = load_catalog(settings, WorkingTree(settings.repo))
    assert pulled_as(catalog.images["tools/shell"], catalog, settings) == expected


@pytest.mark.parametrize(("readme", "link"), [("README.md", ""), ("docs/images.md", "../")])
def test_the_table_has_what_an_image_is_capable_of_and_a_link_to_its_notes(
    settings: Settings, readme: str, link: str
) -> None:
    chosen = settings.open_source.model_copy(update={"readme": readme})
    table = image_table([listed(settings, notes("v2"))], TODAY, settings.model_copy(update={"open_source": chosen}))
    tags = f"`v2`, `latest` ([release notes]({link}release-notes/tools/shell.md))"
    assert table.splitlines()[2] == (
        f"| `registry.example/shell` | Debian 12 | Python 3.11.2 | {tags} | `busybox` |  |"
    )


def test_public_notes_have_nothing_of_the_source(settings: Settings) -> None:
    page = notes_page(listed(settings, notes("v2", "v1"), notes("v1")))
    assert page.startswith("# Release notes of `registry.example/shell`\n\n`latest` is `v2`.\n\n## v2\n")
    assert "Changes since `v1`:" in page
    assert "| `lib0` | `1` | `2` |" in page
    assert "| `busybox` |" in page
    for private in ("the private part", "secret.corp", "-FROM a", "no commit", "Dockerfile.private", "somebody"):
        assert private not in page


def test_versions_are_no_private_addresses(settings: Settings) -> None:
    found = notes("v2", "v1")
    assert found.difference is not None
    platform = replace(
        found.difference.platforms[0],
        packages=(PackageChange("pypi", "nvidia-curand", "nvidia-curand", (), ("10.3.2.106", "2.0")),),
    )
    found = replace(found, difference=replace(found.difference, platforms=(platform,)))
    page = notes_page(listed(settings, found))
    assert "| `nvidia-curand` | - | `10.3.2.106, 2.0` |" in page
    rules = LeakRules(tuple(map(re.compile, settings.open_source.internal_name_patterns)), frozenset(), {}, ())

    def leaks(text: str) -> list[str]:
        files = {"release-notes/a.md": PublicFile(FileMode.REGULAR, text.encode())}
        return [leak.what for leak in check_for_leaks(files, rules)]

    assert leaks(page) == ["the internal name '10.3.2.106'"]
    assert leaks(without_versions(page)) == []
    assert leaks(without_versions(f"{page}\nfrom `vault.corp`, at `10.1.2.3/x`")) != []


def test_an_image_without_notes_has_no_page(settings: Settings) -> None:
    assert notes_page(listed(settings)) == ""


def test_the_readme_of_an_image_has_the_notes_of_the_latest_release_if_there_is_room(settings: Settings) -> None:
    short = image_readme(listed(settings, notes("v3"), notes("v2", "v1")), settings, TODAY)
    assert "| capabilities | Python 3.11.2 |" in short
    assert ("## v2\n" in short, "## v3\n" in short) == (True, False)
    assert "Changes since the last release:" in short, "v1 is served no more"
    long = notes("v2", "v1", package="x" * 25_000)
    assert "## v2\n" not in image_readme(listed(settings, long), settings, TODAY)


def test_capabilities_are_read_from_the_packages(tmp_path: Path) -> None:
    registry = MemoryRegistry()
    packages = {"python3.11-minimal": "3.11.2-6+deb12u8", "openmpi-bin": "4.1.4-3+b1", "libc6": "2.36-9"}
    status = "".join(deb(name, version) for name, version in packages.items())
    image = registry.push({"var/lib/dpkg/status": status}, dist_info("impi_rt", "2021.14.1"))
    inventory = read_inventory(registry, image, LayerRecords(tmp_path))  # type: ignore[arg-type]
    assert capabilities(inventory) == {"Python": "3.11.2", "Open MPI": "4.1.4", "Intel MPI": "2021.14"}
