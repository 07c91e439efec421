"""YAML and README of released images, as registry and Docker Hub show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import copy_image

if TYPE_CHECKING:
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository
    from tests.open_source.conftest import BareRepository

pytestmark = pytest.mark.engine

BRANCH = "aml-images/sync"


@pytest.fixture
def docs(image_repository: ImageRepository, public: BareRepository) -> BareRepository:
    """The same bare repository serves as that of the documentation; sources are elsewhere."""
    page = image_repository.root / "pyproject.toml"
    text = page.read_text().replace(f'repository = "{public.root}"', 'repository = "https://github.com/contoso/images"')
    page.write_text(f'{text}docs-repository = "{public.root}"\n')
    return public


@pytest.fixture
def released(
    image_repository: ImageRepository, staging: OciRegistry, production: OciRegistry, busybox: Reference
) -> str:
    """tools/shell, as released: its repository in production."""
    repository = f"public{image_repository.families['tools'].removeprefix('tools')}/shell"
    copy_image(staging, production, busybox, repository)
    for tag in ("20261122.v1", "20261123.v1", "latest"):
        production.tag(Reference(production.host, repository, digest=busybox.digest), tag)
    return repository


def test_released_images_are_documented(image_repository: ImageRepository, docs: BareRepository, released: str) -> None:
    folder = image_repository.folder("tools/shell")
    image_repository.write(folder / "image.json", '{"description": "A shell.", "eol": "2099-01-31"}')
    done = image_repository.run("publish-docs")
    assert done.returncode == 0, done.stderr
    assert [path for path in docs.files(BRANCH) if path != "README.md"] == [
        "fleet.html",
        "teams/azureml/shell/README.md",
        "teams/azureml/shell/tags.yml",
    ]
    fleet = docs.read(BRANCH, "fleet.html")
    assert "released elsewhere" not in fleet  # how production came there is of the team alone
    assert "shell</span>" in fleet
    source = f"https://github.com/contoso/images/blob/main/{folder.parent.name}/shell"
    assert yaml.safe_load(docs.read(BRANCH, "teams/azureml/shell/tags.yml")) == {
        "repos": [
            {
                "repoName": released,
                "customTablePivots": True,
                "tagGroups": [
                    {
                        "tags": ["20261123.v1", "latest"],
                        "architecture": "amd64",
                        "os": "linux",
                        "osVersion": "Busybox",
                        "dockerfile": f"{source}/Dockerfile",
                    }
                ],
            }
        ]
    }
    readme = docs.read(BRANCH, "teams/azureml/shell/README.md")
    for part in (
        "# shell\n\nA shell.\n\nEnd of life: 2099-01-31.",
        "docker pull registry.example/shell:20261123.v1",
        f"[notices]({source}/ThirdPartyNotices.txt)",
    ):
        assert part in readme


def test_what_was_proposed_and_is_not_merged_stays_proposed(
    image_repository: ImageRepository,
    docs: BareRepository,
    released: str,
    staging: OciRegistry,
    production: OciRegistry,
    busybox: Reference,
) -> None:
    other = released.replace("/shell", "/other")
    copy_image(staging, production, busybox, other)
    production.tag(Reference(production.host, other, digest=busybox.digest), "latest")
    for image in ("shell", "other"):
        done = image_repository.run("publish-docs", image)
        assert done.returncode == 0, done.stderr
    folders = {path.split("/")[2] for path in docs.files(BRANCH) if path.startswith("teams/")}
    assert folders == {"shell", "other"}


def test_an_internal_name_in_a_description_is_caught(
    image_repository: ImageRepository, docs: BareRepository, released: str
) -> None:
    folder = image_repository.folder("tools/shell")
    image_repository.write(folder / "image.json", '{"description": "As vault-17 has it."}')
    done = image_repository.run("publish-docs")
    assert done.returncode == 2
    assert "teams/azureml/shell/README.md:3: the internal name 'vault-17'" in done.stderr
    assert docs.git("branch", "--list", BRANCH) == ""


def test_an_image_that_was_never_released_is_refused(image_repository: ImageRepository, docs: BareRepository) -> None:
    done = image_repository.run("publish-docs", "other")
    assert done.returncode == 2
    assert "never released: apps" in done.stderr
