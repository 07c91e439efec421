"""Case C7: a reference that names one release of an image of our own is that release, or an error."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.builds.ledger import Ledger, TagChange
from aml_images_dagster.catalog.reference import Reference
from tests.builds.in_memory import MemoryFactory, staged_digests, write, write_image
from tests.records import begun_release

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.builds.records import PlannedImage

BASE, OLD, NEW = (f"sha256:{digit * 64}" for digit in "123")
ROOT = "registry.example/root"


@pytest.fixture
def factory(tmp_path: Path) -> MemoryFactory:
    """An image with two releases, and one that is built on it."""
    repo = tmp_path / "repo"
    write_image(repo, "base/root", "FROM base:1\nRUN true\n")
    write_image(repo, "top/leaf", f"FROM {ROOT}\nRUN true\n")
    write(repo / "checks/check.py", "echo well\n")
    subprocess.run(["git", "init", "-q", str(repo)], check=True)
    factory = MemoryFactory(repo, tmp_path / "home", {"base:1": BASE})
    production = factory.backends.production
    production.host = "production.example"
    for tag, digest in (("20250101.v1", OLD), ("20260101.v1", NEW), ("latest", NEW)):
        production.push(Reference(production.host, "public/azureml/root", tag), digest, {})  # type: ignore[attr-defined]
    return factory


def planned(factory: MemoryFactory, dockerfile: str) -> PlannedImage:
    """What is planned for the image when it has this Dockerfile."""
    (factory.settings.repo / "images/top/leaf/Dockerfile").write_text(dockerfile)
    return factory.plan("top/leaf").by_name["top/leaf"]


@pytest.mark.parametrize("instruction", ["FROM {}", "FROM base:1\nCOPY --from={} /a /a", "FROM {} AS a\nFROM base:1"])
@pytest.mark.parametrize(
    ("reference", "digest"),
    [
        (f"{ROOT}:20250101.v1", OLD),
        (f"{ROOT}:20260101.v1", NEW),
        (f"{ROOT}@{OLD}", OLD),
        (f"{ROOT}:20260101.v1@{OLD}", OLD),
        (f"{ROOT}:latest@{OLD}", OLD),
        (f"{ROOT}:{{{{latest-image-tag:2025.*}}}}", OLD),
        (ROOT, NEW),
        (f"{ROOT}:latest", NEW),
        (f"{ROOT}:{{{{latest-image-tag}}}}", NEW),
        (f"{ROOT}:{{{{latest-image-tag:[0-9]+.v[0-9]+}}}}", NEW),
    ],
)
def test_c7_a_release_that_is_named_is_used(
    factory: MemoryFactory, instruction: str, reference: str, digest: str
) -> None:
    step = planned(factory, f"{instruction.format(reference)}\nRUN true\n")
    (base,) = [base for base in step.bases if base.reference == reference]
    assert base.digest == digest
    assert base.pull == f"production.example/public/azureml/root@{digest}"


def test_c7_the_base_of_a_variant_is_that_release(factory: MemoryFactory) -> None:
    write(
        factory.settings.repo / "images/top/leaf/image.json",
        f'{{"variants": {{"old": {{"base": "{ROOT}:20250101.v1", "name": "leaf"}}}}}}',
    )
    assert planned(factory, "FROM base:1\nRUN true\n").pins == {f"{ROOT}:20250101.v1": OLD}


@pytest.mark.parametrize("reference", [f"{ROOT}:20240101.v1", f"{ROOT}@sha256:{'9' * 64}", f"{ROOT}:latestt"])
def test_c7_a_release_that_is_nowhere_is_an_error(factory: MemoryFactory, reference: str) -> None:
    step = planned(factory, f"FROM {reference}\n")
    assert step.action == "refuse"
    assert step.because == (
        f"{reference}: neither production nor staging has this release of base/root, and nobody has it",
    )


def test_c7_a_release_that_only_its_public_place_has_is_used(factory: MemoryFactory) -> None:
    factory.backends.resolver.digests[f"{ROOT}:20240101.v1"] = BASE  # type: ignore[attr-defined]
    assert planned(factory, f"FROM {ROOT}:20240101.v1\n").pins == {f"{ROOT}:20240101.v1": BASE}


def test_c7_the_image_that_a_build_makes_is_not_the_release_that_is_named(factory: MemoryFactory) -> None:
    (factory.settings.repo / "images/top/leaf/Dockerfile").write_text(f"FROM {ROOT}:20250101.v1\n")
    plan = factory.plan()
    assert plan.by_name["top/leaf"].pins == {f"{ROOT}:20250101.v1": OLD}
    session = factory.build(plan)
    leaf = session.folder.read_staged("top/leaf")
    assert leaf is not None
    assert [base.digest for base in leaf.bases] == [OLD]
    assert f"FROM production.example/public/azureml/root@{OLD}" in leaf.dockerfile


def test_c7_a_digest_that_has_passed_is_found_in_staging(factory: MemoryFactory) -> None:
    digest = staged_digests(factory.build(factory.plan("base/root")))["base/root"]
    (base,) = planned(factory, f"FROM {ROOT}@{digest}\n").bases
    assert base.pull == f"staging.example/base@{digest}"
    assert planned(factory, f"FROM base:1\nCOPY --from={ROOT}@{BASE} /a /a\n").action == "refuse", "it never passed"


def test_c7_a_digest_that_only_a_pull_request_has_made_is_not_used(factory: MemoryFactory) -> None:
    session = factory.build(factory.plan("base/root", pull_request="7"), pull_request="7")
    digest = staged_digests(session)["base/root"]
    assert planned(factory, f"FROM {ROOT}@{digest}\n").action == "refuse"
    assert factory.plan("top/leaf", pull_request="8").by_name["top/leaf"].action == "build"


@pytest.mark.parametrize("reference", [f"{ROOT}:20250101.v1", f"{ROOT}@{OLD}"])
def test_c7_a_release_that_was_withdrawn_is_not_used(factory: MemoryFactory, reference: str) -> None:
    named = {"image": "base/root", "repository": "public/azureml/root", "tag": "20250101.v1"}
    made, gone = (TagChange(**named, before=a, after=b) for a, b in ((None, OLD), (OLD, None)))
    ledger = Ledger(factory.backends.artifacts)
    ledger.append(begun_release("20250101.aaaaaaaa", changes=(made,)))
    ledger.append(begun_release("20250101.aaaaaaaa", action="withdrawal", changes=(gone,)))
    factory.backends.production.served.pop(("public/azureml/root", "20250101.v1"))  # type: ignore[attr-defined]
    step = planned(factory, f"FROM {reference}\n")
    assert step.because == (f"{reference}: this release of base/root was withdrawn",)
