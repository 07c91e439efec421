"""Images and jobs for tests of the test runner."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import tarfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import TypeAdapter

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.tests_file import Scenario
from aml_images_dagster.engine.interface import BuildRequest, OperatingSystem
from aml_images_dagster.testing.containers import ContainerRunner
from aml_images_dagster.testing.interface import TestJob as Job

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.engine.docker_engine import DockerEngine
    from aml_images_dagster.registry.oci import OciRegistry

MakeJob = Callable[..., Job]
MakeImage = Callable[[str], str]

# Scenarios start scripts with `python`; where a shell stands in for it, tests are fast and need no large image.
SHELL_AS_PYTHON = "FROM {base}\nRUN printf '#!/bin/sh\\nexec sh \"$@\"\\n' > /bin/python && chmod 755 /bin/python\n"
DEBIAN_WITH_OPEN_MPI = (
    "FROM {base}\n"
    "RUN apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends"
    " openmpi-bin openssh-client openssh-server python3-mpi4py python-is-python3 >/dev/null\n"
    # Programs outside the usual folders are found on all nodes only if the image's environment gets there.
    "RUN mkdir /opt/bin && mv /usr/bin/orted /opt/bin/"
    " && rm /usr/bin/python && ln -s /usr/bin/python3 /opt/bin/python\n"
    "ENV PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ONLY_IN_THE_IMAGE=yes\n"
)


@pytest.fixture(scope="session")
def shell_image(
    engine: DockerEngine, staging: OciRegistry, busybox: Reference, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """A 2 MB image whose python is a shell, by digest."""
    yield from _image(engine, staging, SHELL_AS_PYTHON.format(base=busybox), tmp_path_factory.mktemp("shell"))


@pytest.fixture(scope="session")
def mpi_image(engine: DockerEngine, staging: OciRegistry, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian with Python, mpi4py and Open MPI, by digest; the engine's cache keeps its layers."""
    base = Reference(staging.host, "mirror/docker.io/library/debian", "12")
    yield from _image(engine, staging, DEBIAN_WITH_OPEN_MPI.format(base=base), tmp_path_factory.mktemp("mpi"))


@pytest.fixture
def hostile_image(
    engine: DockerEngine, staging: OciRegistry, busybox: Reference, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeImage]:
    """Makes a 2 MB image whose python3 is a shell script of the test's."""
    with contextlib.ExitStack() as images:

        def make(script: str) -> str:
            dockerfile = f"FROM {busybox}\nRUN printf '#!/bin/sh\\n{script}' > /bin/python3 && chmod 755 /bin/python3\n"
            image = contextlib.contextmanager(_image)
            return images.enter_context(image(engine, staging, dockerfile, tmp_path_factory.mktemp("hostile")))

        yield make


def _image(engine: DockerEngine, staging: OciRegistry, dockerfile: str, folder: Path) -> Iterator[str]:
    context = folder / "context.tar"
    with tarfile.open(context, "w") as archive:
        member = tarfile.TarInfo("Dockerfile")
        member.size = len(dockerfile)
        archive.addfile(member, io.BytesIO(dockerfile.encode()))
    tag = Reference(staging.host, f"tests/testing-{uuid.uuid4().hex[:8]}", "1")
    engine.build(BuildRequest(context, "Dockerfile", str(tag), "linux/amd64", 300), lambda _: None)
    digest = engine.push(str(tag), lambda _: None)
    # The cache of layers lives as long as an image uses them.
    engine.keep_as_cache(str(tag), f"aml-images-tests/{folder.name.rstrip('0123456789')}:cache")
    try:
        yield str(tag.with_digest(digest))
    finally:
        staging.delete(tag.with_digest(digest))
        engine.forget(str(tag.with_digest(digest)))


@pytest.fixture
def runner() -> ContainerRunner:
    """The runner on this machine's engine."""
    return ContainerRunner()


@pytest.fixture
def build(runner: ContainerRunner) -> Iterator[str]:
    """A build's number of the test's own; nothing of it is left after the test, and the test fails if it was."""
    number = f"20260101.{uuid.uuid4().hex[:8]}"
    yield number
    assert runner.cancel(number) == []


@pytest.fixture
def make_job(build: str, tmp_path: Path) -> MakeJob:
    """Makes a job out of a scenario and files, given as texts."""
    count = itertools.count()
    scenarios: TypeAdapter[Any] = TypeAdapter(Scenario)

    def make(
        reference: str,
        files: Mapping[str, str],
        *,
        os_: OperatingSystem = "linux",
        seconds: float = 60,
        **scenario: object,
    ) -> Job:
        number = next(count)
        code = tmp_path / f"code{number}"
        for name, text in files.items():
            path = code / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        scenario = {"name": "trial", "kind": "training"} | scenario
        if scenario["kind"] == "training":
            scenario = {"script": next(iter(files), "")} | scenario
        name = f"tests-{build.replace('.', '-')}-{number}-{os.getpid()}"
        parsed = scenarios.validate_python(scenario)
        return Job(name, build, "base/tests", reference, os_, parsed, code, seconds)

    return make


@pytest.fixture(autouse=True)
def interruptible():
    """What runs tests in the background may have them ignore SIGINT; these send it to themselves."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
