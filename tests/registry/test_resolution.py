"""Finding bases: mirror, registry, engine, in this order."""

from __future__ import annotations

import pytest

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import OciRegistry
from aml_images_dagster.registry.resolution import BaseResolver, ResolvedBase
from tests.emulators.faulty_registry import Fault

pytestmark = pytest.mark.engine

NOWHERE = "127.0.0.1:9"


def test_the_mirror_answers(staging, busybox):
    resolver = BaseResolver({"docker.io": f"{staging.host}/mirror/docker.io"})
    assert resolver.resolve("busybox") == ResolvedBase("busybox", busybox.digest, str(busybox))
    pinned = f"busybox@{busybox.digest}"
    assert resolver.resolve(pinned) == ResolvedBase(pinned, busybox.digest, str(busybox))


@pytest.mark.parametrize("mirror", ["the mirror has no such image", "the mirror fails", "no mirror there"])
def test_the_registry_answers_for_the_mirror(staging, front, pushed, mirror):
    host = NOWHERE if mirror == "no mirror there" else front.host
    if mirror == "the mirror fails":
        front.faults.append(Fault("status", status=500))
    resolver = BaseResolver({staging.host: f"{host}/absent"})
    base = resolver.resolve(f"{pushed.name}:1")
    assert base == ResolvedBase(f"{pushed.name}:1", pushed.digest, str(pushed.with_digest(pushed.digest)))


def test_the_engine_answers_when_no_registry_does(staging, engine, pushed):
    def open_registry(_: str) -> OciRegistry:
        return OciRegistry(NOWHERE)

    engine.pull(f"{pushed.name}:1", print)
    base = BaseResolver({}, engine, open_registry).resolve(f"{pushed.name}:1")
    engine.forget(f"{pushed.name}:1")
    assert base.from_engine
    assert (base.digest, base.pull) == (pushed.digest, str(pushed.with_digest(pushed.digest)))


def test_nobody_answers(staging, engine, repository):
    resolver = BaseResolver({NOWHERE: f"{staging.host}/{repository}"}, engine)
    with pytest.raises(BadInput) as failed:
        resolver.resolve(f"{NOWHERE}/base:1")
    said = str(failed.value)
    assert f"{staging.host} has no {repository}/base:1" in said
    assert f"{NOWHERE}: asked for base:1, the registry does not answer: Connection refused" in said
    assert "the engine has not pulled it" in said
    assert "base_mirrors" in failed.value.hint


def test_answers_are_kept(front, pushed):
    resolver = BaseResolver({pushed.registry: front.host})
    assert resolver.resolve(f"{pushed.name}:1") == resolver.resolve(f"{pushed.name}:1")
    assert [method for method, _ in front.seen] == ["HEAD", "GET"]


def test_a_registry_that_is_not_there_is_asked_once(front, pushed):
    front.faults.append(Fault("drop"))
    resolver = BaseResolver({pushed.registry: front.host})
    resolver.resolve(f"{pushed.name}:1")
    asked = len(front.seen)
    resolver.resolve(pushed.name + "@" + pushed.digest)
    assert len(front.seen) == asked


def test_the_newest_tag_stands_for_a_template(staging, pushed):
    for tag in ("20261101.v9", "20261101.v10", "zzz"):
        staging.tag(pushed.with_digest(pushed.digest), tag)
    resolver = BaseResolver({})
    template = f"{pushed.name}:{{{{latest-image-tag:\\d+\\.v\\d+}}}}"
    assert resolver.resolve(template).pull == str(pushed.with_digest(pushed.digest))
    with pytest.raises(BadInput, match=r"has no .*latest-image-tag:y"):
        resolver.resolve(f"{pushed.name}:{{{{latest-image-tag:y+}}}}")
    with pytest.raises(BadInput, match="has no"):
        resolver.resolve(f"{pushed.name}:{{{{latest-image-tag}}}}")  # there is no tag latest


def test_text_that_is_no_reference():
    with pytest.raises(BadInput, match="is not an image reference"):
        BaseResolver({}).resolve("No Such:Thing")
