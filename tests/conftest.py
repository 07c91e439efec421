"""What several tests share: the real engine, the two real registries, and images to play with."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.docker_engine import DockerEngine
from aml_images_dagster.engine.interface import BuildRequest
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.registry.oci import OciRegistry

MakeContext = Callable[[Mapping[str, str | bytes]], Path]


@pytest.fixture(scope="session")
def engine() -> DockerEngine:
    """The engine of this machine."""
    engine = DockerEngine()
    _must_answer(engine.info)
    return engine


@pytest.fixture(scope="session")
def staging() -> OciRegistry:
    """The staging registry; it also mirrors the bases that tests build from."""
    return _registry("AML_IMAGES_STAGING_REGISTRY", "127.0.0.1:5000")


@pytest.fixture(scope="session")
def production() -> OciRegistry:
    """The production registry."""
    return _registry("AML_IMAGES_PRODUCTION_REGISTRY", "127.0.0.1:5001")


@pytest.fixture
def repository(staging: OciRegistry, production: OciRegistry) -> Iterator[str]:
    """A repository of the test's own; what it and those below it hold is deleted after the test."""
    name = f"tests/{uuid.uuid4().hex[:12]}"
    yield name
    for registry in (staging, production):
        for found in registry.repositories():
            if f"{found}/".startswith(f"{name}/"):
                for tag in registry.tags(found):
                    registry.delete(Reference(registry.host, found, tag))


@pytest.fixture(scope="session")
def busybox(staging: OciRegistry) -> Reference:
    """A small base image, by digest, in the mirror of the staging registry."""
    base = Reference(staging.host, "mirror/docker.io/library/busybox", "latest")
    digest = staging.digest(base)
    if digest is None:
        pytest.fail(f"{base} is missing: push a busybox image there")
    return base.with_digest(digest)


@pytest.fixture
def make_context(tmp_path: Path) -> MakeContext:
    """Writes a build context from file names and contents."""

    def make(files: Mapping[str, str | bytes]) -> Path:
        path = tmp_path / f"context-{uuid.uuid4().hex[:8]}.tar"
        with tarfile.open(path, "w") as archive:
            for name, content in files.items():
                data = content.encode() if isinstance(content, str) else content
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path

    return make


@pytest.fixture
def pushed(
    engine: DockerEngine, staging: OciRegistry, busybox: Reference, repository: str, make_context: MakeContext
) -> Iterator[Reference]:
    """A small image of the test's own in the staging registry: tag and digest."""
    reference = Reference(staging.host, repository, "1")
    context = make_context({"Dockerfile": f"FROM {busybox}\nRUN echo {uuid.uuid4()} > /unique\n"})
    engine.build(BuildRequest(context, "Dockerfile", str(reference), "linux/amd64", 120), _quiet)
    digest = engine.push(str(reference), _quiet)
    yield Reference(staging.host, repository, "1", digest)
    with contextlib.suppress(FactoryError):
        engine.forget(str(reference))


def _registry(variable: str, default: str) -> OciRegistry:
    registry = OciRegistry(os.environ.get(variable, default))
    _must_answer(registry.ping)
    return registry


def _must_answer(ask: Callable[[], object]) -> None:
    """A missing engine fails the tests that need it: a skipped test proves nothing."""
    try:
        ask()
    except FactoryError as error:
        pytest.fail(f"this test needs it running: {error}", pytrace=False)


def _quiet(_: str) -> None:
    """Nobody reads this log."""
