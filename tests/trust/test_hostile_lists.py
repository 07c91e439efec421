"""Registries whose lists of what is attached are wrong, endless or go round in circles."""

from __future__ import annotations

import json
from hashlib import sha256

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import Unreachable
from aml_images_dagster.registry.oci import OCI_INDEX, OCI_MANIFEST, OciRegistry
from aml_images_dagster.trust import referrers
from tests.emulators.hostile_registry import Exchange, HostileRegistry

DIGEST = f"sha256:{'0' * 64}"


def entry(digest: str = DIGEST, **parts) -> dict:
    return {"mediaType": OCI_MANIFEST, "digest": digest, "size": 1, "artifactType": "application/spdx+json", **parts}


def listed(document: object) -> list:
    """What is listed by a registry that always gives the same answer."""
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    with HostileRegistry(lambda exchange: exchange.reply(200, body, Content_Type=OCI_INDEX)) as registry:
        return referrers.listed(OciRegistry(registry.host), Reference(registry.host, "apps/hello", digest=DIGEST))


@pytest.mark.parametrize("document", [
    b"",
    b"<html>",
    b"[" * 100_000,
    [],
    {"manifests": 1},
    {"manifests": [1]},
    {"manifests": [{}]},
    {"manifests": [entry("sha256:0")]},
    {"manifests": [entry(size="1")]},
    {"manifests": [entry(size=-1)]},
    {"manifests": [entry(artifactType=1)]},
    {"manifests": [entry(annotations=[1])]},
    {"manifests": [entry(annotations={"a": 1})]},
    {"manifests": [entry()] * 1001},
], ids=repr)  # fmt: skip
def test_what_is_no_list_is_an_error(document):
    with pytest.raises(Unreachable):
        listed(document)


def test_an_empty_list_is_empty():
    assert listed({"manifests": []}) == []


def test_a_list_whose_pages_never_end():
    def play(exchange: Exchange) -> None:
        number = int(exchange.path.rpartition("=")[2]) if "=" in exchange.path else 0
        body = json.dumps({"manifests": [entry()] * 100}).encode()
        exchange.reply(200, body, Link=f"</v2/apps/hello/referrers/{DIGEST}?from={number + 1}>; rel=next")

    with HostileRegistry(play) as registry:
        with pytest.raises(Unreachable, match="more than 1,000 artifacts"):
            referrers.listed(OciRegistry(registry.host), Reference(registry.host, "apps/hello", digest=DIGEST))
        assert len(registry.seen) < 20


def test_pages_that_lead_back_are_an_error():
    def play(exchange: Exchange) -> None:
        exchange.reply(200, json.dumps({"manifests": []}).encode(), Link=f"<{exchange.path}>; rel=next")

    with HostileRegistry(play) as registry:
        with pytest.raises(Unreachable, match="was there before"):
            referrers.listed(OciRegistry(registry.host), Reference(registry.host, "apps/hello", digest=DIGEST))
        assert len(registry.seen) <= 2


def manifest(number: int, subject: str) -> tuple[str, bytes]:
    body = json.dumps({"number": number, "subject": {"digest": subject}}).encode()
    return f"sha256:{sha256(body).hexdigest()}", body


def test_artifacts_that_are_attached_to_each_other_without_end():
    """Each answer makes up one more artifact of the artifact before."""
    made: dict[str, bytes] = {}

    def play(exchange: Exchange) -> None:
        of = exchange.path.rpartition("/")[2]
        if "/manifests/" in exchange.path:
            exchange.reply(200 if of in made else 404, made.get(of, b""), Docker_Content_Digest=of)
            return
        digest, body = manifest(len(made), of)
        made[digest] = body
        exchange.reply(200, json.dumps({"manifests": [entry(digest)]}).encode())

    with HostileRegistry(play) as registry:
        image = Reference(registry.host, "apps/hello", digest=DIGEST)
        for ask in (lambda *of: list(referrers.walk(*of)), referrers.delete):
            with pytest.raises(Unreachable, match="artifacts without end"):
                ask(OciRegistry(registry.host), image)


def test_artifacts_in_a_circle_are_named_once():
    def play(exchange: Exchange) -> None:
        if "/manifests/" in exchange.path:
            exchange.reply(404)
        else:
            exchange.reply(200, json.dumps({"manifests": [entry()]}).encode())

    with HostileRegistry(play) as registry:
        assert list(referrers.walk(OciRegistry(registry.host), Reference(registry.host, "a/b", digest=DIGEST))) == []


def test_a_registry_without_the_api_is_asked_for_the_index():
    with HostileRegistry(lambda exchange: exchange.reply(404)) as registry:
        assert referrers.listed(OciRegistry(registry.host), Reference(registry.host, "a/b", digest=DIGEST)) == []
        assert registry.seen[-1].endswith("/manifests/sha256-" + "0" * 64)
