"""The factory's own image, and images that stand in for those of others that deploy/ names."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import pytest

from tests.browser.conftest import chromium as chromium  # a fixture

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.registry.oci import OciRegistry

ROOT = Path(__file__).parents[2]
STAND_INS = Path(__file__).parent / "stand_ins"
BuildImage = Callable[..., str]


@pytest.fixture(scope="session")
def build_image(staging: OciRegistry) -> BuildImage:
    """Builds an image on Debian 12 into the engine; its name. Layers of earlier builds are used again."""

    def build(name: str, context: Path, *options: str) -> str:
        base = f"{staging.host}/mirror/docker.io/library/debian:12"
        command = ["docker", "buildx", "build", "--load", "--quiet", "--network", "host", "--build-arg", f"BASE={base}"]
        done = subprocess.run(
            [*command, "--tag", name, *options, str(context)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-5000:]
        return name

    return build


@pytest.fixture(scope="session")
def engine_client() -> Iterator[docker.DockerClient]:
    """The engine, for who looks at its containers."""
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def factory_image(build_image: BuildImage) -> str:
    """The image of deploy/Dockerfile, as docs/operate.md builds it."""
    return build_image("aml-images-test", ROOT, "--file", str(ROOT / "deploy" / "Dockerfile"))


@pytest.fixture(scope="session")
def factory_image_with_launchers(build_image: BuildImage) -> str:
    """The same, with the launchers of runs as pods and containers."""
    requirements = ("--build-arg", "REQUIREMENTS=deploy/requirements-launchers.txt")
    file = str(ROOT / "deploy" / "Dockerfile")
    return build_image("registry.example/aml-images:1", ROOT, "--file", file, *requirements)


@pytest.fixture(scope="session")
def stand_ins(build_image: BuildImage) -> dict[str, str]:
    """Images of Postgres, Caddy and a registry, by the variables of deploy/compose that name them."""
    return {
        f"{name.upper()}_IMAGE": build_image(f"aml-images-test-{name}", STAND_INS / name)
        for name in ("postgres", "caddy", "registry")
    }
