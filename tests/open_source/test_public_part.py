"""Which files of an image folder are public, and which of them Dockerfile.private copies as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.open_source.leak_check import private_files
from aml_images_dagster.open_source.public_part import PublicPart
from tests.catalog.conftest import git_repository, new_git_repository  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from tests.catalog.conftest import GitRepository

ALWAYS = ["Dockerfile", "LICENSE.txt", "ThirdPartyNotices.txt"]
ARM64 = '{"platform": "linux/arm64"}'
BOTH = '{"platforms": ["linux/amd64", "linux/arm64"]}'


def public_part(repository: GitRepository, dockerfile: str, settings: str, **files: str) -> PublicPart:
    files |= {"tool-amd64": "a\n", "tool-arm64": "b\n", "image__json": settings}
    repository.image("base/x", dockerfile, **files)
    return PublicPart.of(repository.catalog().get("base/x"), repository.tree())


@pytest.mark.parametrize(
    ("settings", "copied"),
    [("{}", ["tool-amd64"]), (ARM64, ["tool-arm64"]), (BOTH, ["tool-amd64", "tool-arm64"])],
)
def test_files_of_every_platform_of_the_image_are_public(
    git_repository: GitRepository,  # noqa: F811
    settings: str,
    copied: list[str],
) -> None:
    part = public_part(git_repository, "FROM debian:12\nARG TARGETARCH\nCOPY tool-${TARGETARCH} /tool\n", settings)
    assert sorted(part.files) == [*ALWAYS, *copied]


@pytest.mark.parametrize("settings", [ARM64, BOTH])
def test_a_file_that_is_private_on_one_platform_is_found(
    git_repository: GitRepository,  # noqa: F811
    settings: str,
) -> None:
    private = "ARG TARGETARCH\nCOPY tool-${TARGETARCH} /inner\n"
    part = public_part(git_repository, "FROM debian:12\nCOPY tool-arm64 /tool\n", settings, Dockerfile__private=private)
    (leak,) = private_files(part, "public/x")
    assert (leak.path, leak.what) == ("public/x/tool-arm64", "Dockerfile.private copies it as well (line 2)")


@pytest.mark.parametrize(
    ("private", "leaks"),
    [("ARG BUILDARCH\nCOPY tool-${BUILDARCH} /inner\n", 1), ("COPY $OF_THE_BASE /inner\n", 1), ("COPY inner /\n", 0)],
)
def test_a_private_copy_that_is_not_known_may_be_of_any_public_file(
    git_repository: GitRepository,  # noqa: F811
    private: str,
    leaks: int,
) -> None:
    text = "FROM debian:12\nCOPY tool-arm64 /tool\n"
    part = public_part(git_repository, text, "{}", Dockerfile__private=private, inner="x")
    found = private_files(part, "public/x")
    assert [leak.path for leak in found] == ["public/x/tool-arm64"] * leaks
    assert all("Dockerfile.private may copy it as well" in leak.what for leak in found)
    assert private_files(public_part(git_repository, "FROM debian:12\n", "{}", Dockerfile__private=private), "x") == []
