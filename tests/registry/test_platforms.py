"""The images of an index, of a registry that is a dictionary."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import DOCKER_INDEX, OCI_INDEX, OCI_MANIFEST, _is_config, _json_object
from aml_images_dagster.registry.platforms import images_of, manifests_below
from aml_images_dagster.registry.resolution import BaseResolver

REPOSITORY = Reference("registry.example", "base")


class Manifests:
    """Manifests by digest, and configurations by the digest of their manifest."""

    def __init__(self) -> None:
        self.stored: dict[str, Manifest] = {}
        self.configs: dict[str, dict[str, Any]] = {}

    def put(self, document: object, media_type: str) -> str:
        body = json.dumps(document).encode()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        self.stored[digest] = Manifest(digest, media_type, body)
        return digest

    def image(self, **config: object) -> str:
        described = {"digest": f"sha256:{hashlib.sha256(repr(config).encode()).hexdigest()}", "size": 2}
        digest = self.put({"schemaVersion": 2, "config": described, "layers": []}, OCI_MANIFEST)
        self.configs[digest] = config
        return digest

    def index(self, *entries: tuple[str, object], media_type: str = OCI_INDEX) -> str:
        described = [{"digest": digest, "size": 2, "platform": platform} for digest, platform in entries]
        return self.put({"schemaVersion": 2, "manifests": described}, media_type)

    def manifest(self, reference: Reference) -> Manifest | None:
        return self.stored.get(reference.digest)

    def config(self, reference: Reference) -> dict[str, Any]:
        if reference.digest not in self.configs:
            raise BadInput("there is no such image", where=str(reference))
        return self.configs[reference.digest]


@pytest.fixture
def registry() -> Any:
    return Manifests()


def platform(architecture: str, **more: str) -> dict[str, str]:
    return {"os": "linux", "architecture": architecture, **more}


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_INDEX])
def test_the_images_of_an_index_come_with_their_platforms(registry: Any, media_type: str) -> None:
    amd64, arm64, arm = (registry.image(architecture=name, os="linux") for name in ("amd64", "arm64", "arm"))
    entries = (arm64, platform("arm64", variant="v8")), (amd64, platform("amd64")), (arm, platform("arm", variant="v7"))
    index = registry.index(*entries, media_type=media_type)
    images = images_of(registry, REPOSITORY.with_digest(index))
    digests = {"linux/arm64": arm64, "linux/amd64": amd64, "linux/arm/v7": arm}
    assert [*images.items()] == [(name, REPOSITORY.with_digest(digest)) for name, digest in digests.items()]


def test_an_image_that_is_in_no_index_says_itself_what_it_is_for(registry: Any) -> None:
    image = registry.image(os="windows", architecture="amd64")
    assert images_of(registry, REPOSITORY.with_digest(image)) == {"windows/amd64": REPOSITORY.with_digest(image)}
    assert manifests_below(registry, REPOSITORY.with_digest(image)) == ()


def test_what_is_said_of_an_image_is_no_image_but_goes_with_the_index(registry: Any) -> None:
    image, statement = registry.image(os="linux", architecture="amd64"), registry.image(os="", architecture="")
    index = registry.index((image, platform("amd64")), (statement, {"os": "unknown", "architecture": "unknown"}))
    assert images_of(registry, REPOSITORY.with_digest(index)) == {"linux/amd64": REPOSITORY.with_digest(image)}
    assert manifests_below(registry, REPOSITORY.with_digest(index)) == (image, statement)


def test_an_index_of_indexes_refers_to_all_of_their_images(registry: Any) -> None:
    amd64, arm64 = (registry.image(os="linux", architecture=name) for name in ("amd64", "arm64"))
    inner = registry.index((amd64, platform("amd64")))
    outer = registry.index((inner, None), (arm64, platform("arm64")), (amd64, platform("amd64")))
    assert manifests_below(registry, REPOSITORY.with_digest(outer)) == (inner, amd64, arm64)


def test_what_is_gone_or_of_another_kind_refers_to_nothing(registry: Any) -> None:
    other = registry.put({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+json")
    gone = REPOSITORY.with_digest(f"sha256:{'0' * 64}")
    assert manifests_below(registry, gone) == manifests_below(registry, REPOSITORY.with_digest(other)) == ()
    with pytest.raises(BadInput, match="no such image"):
        images_of(registry, gone)


def test_triggers_are_those_of_every_image_of_an_index(registry: Any) -> None:
    """A builder may take another image of it than the first that is said to be for a platform."""
    first, second = (registry.image(config={"OnBuild": [f"RUN {n}"]}) for n in (1, 2))
    nested = registry.index((registry.image(config={"OnBuild": ["RUN 2", "RUN 3"]}), platform("arm64")))
    plain, empty = registry.image(), registry.image(config=None)
    entries = [(first, platform("amd64", variant="v2")), (second, platform("amd64")), (nested, None)]
    index = registry.index(*entries, (plain, platform("unknown")), (empty, platform("s390x")))
    resolver = BaseResolver({}, None, lambda _: registry)
    assert resolver.triggers(f"registry.example/base@{index}") == ("RUN 1", "RUN 2", "RUN 3")
    assert resolver.triggers(f"registry.example/base@{second}") == ("RUN 2",)
    gone = registry.index((first, platform("amd64")), (f"sha256:{1:064x}", platform("arm64")))
    with pytest.raises(BadInput):
        resolver.triggers(f"registry.example/base@{gone}")


@pytest.mark.parametrize(
    ("body", "is_read"),
    [
        ('{"config": {"OnBuild": ["ADD http://a /"]}}', True),
        ('{"config": {"Labels": {"config": "a", "Config": "b", "Layers": "c"}}, "container_config": {}}', True),
        ('{"config": {"onbuild": ["ADD http://a /"]}}', False),
        ('{"config": {}, "Config": {"OnBuild": ["ADD http://a /"]}}', False),
        ('{"config": {"OnBuild": ["ADD http://a /"]}, "config": {}}', False),
        ('{"config": {"OnBuild": ["ADD http://a /"]}, "config": null}', False),
        ('{"config": {"OnBuild": ["ADD http://a /"], "OnBuild": null}}', False),
        ('{"layers": [], "layer\u017f": [{}]}', False),
    ],
)
def test_what_programs_read_in_different_ways_is_not_read(body: str, is_read: bool) -> None:
    """Go takes names in any case, and merges two that are equal."""
    assert (_json_object(body.encode()) is not None) is is_read


@pytest.mark.parametrize("triggers", ["5", '"ADD a /"', "[5]", '{"a": "b"}'])
def test_triggers_of_another_type_are_no_configuration(triggers: str) -> None:
    assert not _is_config(json.loads(f'{{"config": {{"OnBuild": {triggers}}}}}'))
