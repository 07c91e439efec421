"""Copying an image from one real registry to another, and the import into production by copies."""

from __future__ import annotations

import json
import time
from hashlib import sha256

import pytest

from aml_images_dagster import http_session
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.copy import CopyingImporter, copy_image
from aml_images_dagster.registry.interface import Manifest, VerifiedBlob
from aml_images_dagster.registry.oci import OCI_INDEX, OciRegistry
from tests.emulators.faulty_registry import Fault, FaultyRegistry

pytestmark = pytest.mark.engine


@pytest.fixture
def through(front) -> OciRegistry:
    return OciRegistry(front.host, timeout_seconds=2)


@pytest.fixture
def target_front(production):
    with FaultyRegistry(production.host) as front:
        yield front


def test_a_copy_has_the_same_bytes_and_the_tags(staging, production, pushed):
    digest = copy_image(staging, production, pushed, f"{pushed.repository}/copy", ["20261123.v1", "latest"])
    copy = Reference(production.host, f"{pushed.repository}/copy")
    assert digest == pushed.digest
    assert production.manifest(copy.with_digest(digest)) == staging.manifest(pushed)
    assert production.digest(copy.with_tag("20261123.v1")) == digest == production.digest(copy.with_tag("latest"))
    assert production.config(copy.with_digest(digest)) == staging.config(pushed)


def test_what_is_there_is_not_sent_again(staging, pushed, target_front):
    target = OciRegistry(target_front.host)
    for _ in range(2):
        target_front.seen.clear()
        copy_image(staging, target, pushed, pushed.repository, ["1"])
    assert not target_front.requests("POST")
    assert not target_front.requests("PUT", "/blobs/")


def test_all_images_of_an_index_are_copied(staging, production, pushed):
    image = staging.manifest(pushed)
    entry = {
        "mediaType": image.media_type,
        "digest": image.digest,
        "size": len(image.body),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}).encode()
    index = Manifest(f"sha256:{sha256(body).hexdigest()}", OCI_INDEX, body)
    staging.put_manifest(pushed.repository, "index", index)
    copy_image(staging, production, pushed.with_digest(index.digest), pushed.repository, ["latest"])
    copy = Reference(production.host, pushed.repository)
    assert production.manifest(copy.with_tag("latest")) == index
    assert production.manifest(copy.with_digest(image.digest)) == image


def test_a_tag_alone_is_not_copied(staging, production, pushed):
    with pytest.raises(BadInput, match="copied by digest"):
        copy_image(staging, production, pushed.with_tag("1"), pushed.repository)


def test_an_image_that_is_gone(staging, production, pushed):
    absent = pushed.with_digest(f"sha256:{'0' * 64}")
    with pytest.raises(BadInput, match="no such image"):
        copy_image(staging, production, absent, pushed.repository)


def test_a_transfer_may_take_longer_than_an_answer(staging, production, pushed, monkeypatch):
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS", 1)
    read = VerifiedBlob.read

    def read_slowly(blob, size=-1):
        time.sleep(0.6)  # each blob has at least one piece and an end
        return read(blob, size)

    monkeypatch.setattr(VerifiedBlob, "read", read_slowly)
    slow = OciRegistry(production.host)
    assert copy_image(staging, slow, pushed, f"{pushed.repository}/slow", ["1"]) == pushed.digest


def test_a_server_that_takes_a_transfer_and_does_not_answer_is_given_up(production, target_front, monkeypatch):
    monkeypatch.setattr(http_session, "_ANSWER_SECONDS", 1)
    target_front.faults = [Fault("hang", "PUT", "/blobs/", times=100)]
    with pytest.raises(Unreachable, match="does not answer"):
        OciRegistry(target_front.host, timeout_seconds=60).upload_blob("a", f"sha256:{sha256(b'x').hexdigest()}", b"x")


@pytest.mark.parametrize("kind", ["drop", "truncate", "corrupt", "hang"])
def test_a_transfer_that_breaks_once_is_repeated(front, through, production, pushed, kind):
    front.faults.append(Fault(kind, "GET", "/blobs/", times=1))
    assert copy_image(through, production, pushed, pushed.repository, ["1"]) == pushed.digest
    assert production.digest(Reference(production.host, pushed.repository, "1")) == pushed.digest


@pytest.mark.parametrize("kind", ["truncate", "corrupt"])
def test_bad_bytes_from_the_source_never_get_a_tag(front, through, production, pushed, kind):
    front.faults.append(Fault(kind, "GET", "/blobs/"))
    with pytest.raises(Unreachable, match=front.host):
        copy_image(through, production, pushed, pushed.repository, ["1"])
    assert list(production.tags(pushed.repository)) == []


@pytest.mark.parametrize("kind", ["drop", "status"])
def test_a_target_that_fails_is_named_and_gets_no_tag(staging, production, target_front, pushed, kind):
    target_front.faults.append(Fault(kind, "PUT", "/blobs/"))
    with pytest.raises(Unreachable, match=target_front.host):
        copy_image(staging, OciRegistry(target_front.host), pushed, pushed.repository, ["1"])
    assert list(production.tags(pushed.repository)) == []


def test_a_tag_moves_only_when_it_may(staging, production, push_new_image, repository):
    first, second = (push_new_image(repository, tag) for tag in ("1", "2"))
    importer = CopyingImporter(staging, production)
    tag = Reference(production.host, f"{repository}/released", "20261123.v1")
    for _ in range(2):  # done already is done
        importer.import_image(first.with_digest(first.digest), tag, replace=False)
        assert production.digest(tag) == first.digest
    with pytest.raises(BadInput, match="A released tag never moves"):
        importer.import_image(second.with_digest(second.digest), tag, replace=False)
    assert production.digest(tag) == first.digest
    importer.import_image(second.with_digest(second.digest), tag, replace=True)
    assert production.digest(tag) == second.digest
