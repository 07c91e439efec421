"""Registries, real and in memory, records of layers, an authority, and programs of others that verify."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust import referrers
from aml_images_dagster.trust.inventory import Inventory, read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from tests.emulators.referrers_registry import ReferrersRegistry
from tests.trust.authority import Authority
from tests.trust.images import MemoryRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.settings import Settings


@pytest.fixture
def registry() -> MemoryRegistry:
    return MemoryRegistry()


@pytest.fixture
def records(tmp_path: Path) -> LayerRecords:
    return LayerRecords(tmp_path / "layers")


@pytest.fixture
def read(registry: MemoryRegistry, records: LayerRecords) -> Callable[..., Inventory]:
    """Reads an image of these layers."""

    def read(*layers: Any, contents: Any = ()) -> Inventory:
        return read_inventory(registry, registry.push(*layers), records, contents)

    return read


@pytest.fixture
def api_front(staging: OciRegistry) -> Iterator[ReferrersRegistry]:
    """The staging registry with the referrers API."""
    with ReferrersRegistry(staging.host) as front:
        yield front


@pytest.fixture(params=["tag", "api"])
def real_registry(request: pytest.FixtureRequest, staging: OciRegistry) -> OciRegistry:
    """A registry where clients keep the list of what is attached, and one with the referrers API."""
    return staging if request.param == "tag" else OciRegistry(request.getfixturevalue("api_front").host)


@pytest.fixture
def image(real_registry: OciRegistry, pushed: Reference, staging: OciRegistry) -> Iterator[Reference]:
    """An image of the test's own in it; what is attached to it goes with it."""
    image = type(pushed)(real_registry.host, pushed.repository, digest=pushed.digest)
    yield image
    referrers.delete(real_registry, image)
    for left in referrers.lists(staging, pushed.repository):
        referrers.detach(staging, image.with_digest(left))


@pytest.fixture(scope="session")
def authority() -> Authority:
    """A certificate authority."""
    return Authority()


@pytest.fixture
def settings_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Settings]:
    """Settings of trust in the profile local, or another."""
    for name in os.environ:
        if name.startswith("AML_IMAGES_"):
            monkeypatch.delenv(name)

    def load(profile: str = "local", **values: object) -> Settings:
        monkeypatch.setenv("AML_IMAGES_PROFILE", profile)
        for name, value in values.items():
            monkeypatch.setenv(f"AML_IMAGES_TRUST__{name.upper()}", str(value))
        return load_settings(repo=tmp_path)

    return load


@dataclass(frozen=True)
class Verifiers:
    """Programs of others.

    Attributes:
        folder: Where they are.
        home: Where they keep their settings.
    """

    folder: Path
    home: Path

    def run(self, *words: object, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one of them, whatever comes of it; nothing of this machine's settings reaches it."""
        found = {"PATH": f"{self.folder}/usr/bin:/usr/bin:/bin", "HOME": str(self.home), **environment}
        return subprocess.run([*map(str, words)], env=found, capture_output=True, text=True, timeout=120, check=False)

    def accept(self, *words: object, **environment: str) -> str:
        """What one prints that ends well."""
        done = self.run(*words, **environment)
        assert done.returncode == 0, f"{words[0]}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def refuse(self, *words: object, **environment: str) -> str:
        """What one prints that ends badly."""
        done = self.run(*words, **environment)
        assert done.returncode != 0, f"{words[0]} accepts it: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture(scope="session")
def verifiers_folder() -> Path:
    """Notation, cosign, oras and @sigstore/verify; a test that needs them fails where they can't be had."""
    script = Path(__file__).parents[2] / "scripts" / "verifiers"
    done = subprocess.run([script], capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0:
        pytest.fail(f"the verifiers can't be had: {done.stdout}{done.stderr}", pytrace=False)
    return Path(_lines(done.stdout)[0])


@pytest.fixture
def verifiers(verifiers_folder: Path, tmp_path: Path) -> Verifiers:
    """The programs, with settings of the test's own."""
    home = tmp_path / "verifiers"
    home.mkdir()
    return Verifiers(verifiers_folder, home)


def _lines(text: str) -> Sequence[str]:
    return [line for line in text.splitlines() if line.startswith("/")]
