"""A real registry, directly and behind a front that fails."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import Manifest, NoAnswer
from aml_images_dagster.registry.oci import DOCKER_MANIFEST, OCI_INDEX, OciRegistry, read_manifest
from tests.emulators.faulty_registry import Answer, Fault
from tests.faults.own_registry import OwnRegistry

pytestmark = pytest.mark.engine

ABSENT = f"sha256:{'0' * 64}"


@pytest.fixture
def through(front) -> OciRegistry:
    return OciRegistry(front.host, timeout_seconds=1)


def test_an_image_is_described(staging, pushed):
    tagged = pushed.with_tag("1")
    assert staging.digest(tagged) == pushed.digest == staging.digest(pushed)
    manifest = staging.manifest(tagged)
    assert manifest.digest == pushed.digest
    assert manifest.media_type.endswith("json")
    document = json.loads(manifest.body)
    assert staging.size_bytes(tagged) == sum(b["size"] for b in (document["config"], *document["layers"]))
    assert staging.config(tagged)["os"] == "linux"
    assert pushed.repository in staging.repositories()
    assert staging.tags(pushed.repository) == ["1"]


def test_what_is_absent_is_none(staging, repository):
    absent = Reference(staging.host, repository, "none")
    assert staging.digest(absent) is None
    assert staging.manifest(absent) is None
    assert staging.digest(absent.with_digest(ABSENT)) is None
    assert list(staging.tags(repository)) == []
    staging.untag(absent)
    staging.delete(absent)
    staging.delete(absent.with_digest(ABSENT))
    for ask in (staging.config, staging.size_bytes, lambda reference: staging.tag(reference, "x")):
        with pytest.raises(BadInput, match="has no such image"):
            ask(absent)


def test_tags_come_and_go_and_the_image_stays(staging, pushed):
    for tag in ("2", "3"):
        staging.tag(pushed, tag)
    assert sorted(staging.tags(pushed.repository)) == ["1", "2", "3"]
    staging.untag(pushed.with_tag("2"))
    staging.untag(pushed.with_tag("2"))
    assert sorted(staging.tags(pushed.repository)) == ["1", "3"]
    assert staging.digest(pushed.with_tag("1")) == staging.digest(pushed.with_tag("3")) == pushed.digest
    staging.untag(pushed.with_tag("1"))
    staging.untag(pushed.with_tag("3"))
    assert list(staging.tags(pushed.repository)) == []
    assert staging.digest(pushed) == pushed.digest


def test_a_tag_that_leads_nowhere_goes_too(staging, busybox, tmp_path):
    """Distribution's registry deletes a manifest, but not its tag, while it writes the tag of another."""
    with OwnRegistry(tmp_path / "own") as own:
        registry = OciRegistry(own.host)
        copy_image(staging, registry, busybox, "tools", ["1", "2"])
        one, two = (Reference(own.host, "tools", tag) for tag in ("1", "2"))
        being_written = tmp_path / "own/docker/registry/v2/repositories/tools/_manifests/tags/2/current/link"
        written = being_written.read_bytes()
        being_written.write_bytes(b"")
        with pytest.raises(Unreachable, match="still has the tag, now for nothing"):
            registry.untag(one)
        assert registry.digest(one) is None
        assert sorted(registry.tags("tools")) == ["1", "2"]
        being_written.write_bytes(written)
        registry.untag(one)
        assert registry.tags("tools") == ["2"]
        assert registry.digest(two) == busybox.digest


@pytest.mark.parametrize("other", ["has written", "has removed"])
def test_who_removes_the_same_tag_at_the_same_moment_is_no_obstacle(staging, pushed, monkeypatch, other):
    """As cleanups of one build do: one comes between what the other has written and what it looks at then."""
    first, second = OciRegistry(staging.host), OciRegistry(staging.host)
    reference, once = pushed.with_tag("2"), iter([True])
    staging.tag(pushed, "2")
    send = first.send_manifest

    def interrupted(*arguments):
        answer = send(*arguments)
        if next(once, False):
            if other == "has removed":
                second.untag(reference)
            else:
                second.send_manifest(pushed.repository, "2", second._throw_away_manifest(pushed.repository))
        return answer

    monkeypatch.setattr(first, "send_manifest", interrupted)
    first.untag(reference)
    assert staging.digest(reference) is None
    assert "2" not in staging.tags(pushed.repository)
    assert staging.digest(pushed) == pushed.digest


def test_many_may_remove_one_tag(staging, pushed):
    for round_ in range(5):
        reference = pushed.with_tag(f"many{round_}")
        staging.tag(pushed, reference.tag)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _, it=reference: OciRegistry(staging.host).untag(it), range(4)))
        assert reference.tag not in staging.tags(pushed.repository)
    assert staging.digest(pushed) == pushed.digest


def test_a_digest_is_not_untagged(staging, pushed):
    with pytest.raises(BadInput, match="is not a tag"):
        staging.untag(pushed.with_digest(pushed.digest))


def test_deleting_takes_every_tag_of_the_digest(staging, pushed):
    staging.tag(pushed, "2")
    staging.delete(pushed.with_tag("2"))
    assert list(staging.tags(pushed.repository)) == []
    assert staging.digest(pushed) is None


def test_an_index_is_measured_by_its_linux_amd64_image_and_has_no_configuration(staging, busybox, pushed):
    """The two images differ in size: a registry wants every image of an index to be there."""
    copy_image(staging, staging, busybox, pushed.repository)
    entries = [
        {"mediaType": DOCKER_MANIFEST, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": name}}
        for digest, name in ((busybox.digest, "arm64"), (pushed.digest, "amd64"))
    ]
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()
    index = Manifest(f"sha256:{sha256(body).hexdigest()}", OCI_INDEX, body)
    staging.put_manifest(pushed.repository, "index", index)
    assert staging.size_bytes(pushed.with_tag("index")) == staging.size_bytes(pushed) != staging.size_bytes(busybox)
    with pytest.raises(BadInput, match="index of several platforms"):
        staging.config(pushed.with_tag("index"))


def test_all_pages_are_read(staging, pushed, front, through, monkeypatch):
    copies = [f"{pushed.repository}/{name}" for name in ("a", "b", "c")]
    for copy in copies:
        copy_image(staging, staging, pushed, copy, ["1"])
    everything = staging.repositories()
    monkeypatch.setattr("aml_images_dagster.registry.oci._PAGE", len(everything) // 2)
    assert set(copies) < set(through.repositories())
    assert len(front.requests("GET", "_catalog")) >= 2


@pytest.mark.parametrize(
    ("status", "what"),
    [(401, "login is missing or wrong"), (403, "may not do that"), (501, "request failed"), (418, "request failed")],
)
def test_refusals_are_told_apart(front, through, pushed, status, what):
    front.faults.append(Fault("status", status=status))
    with pytest.raises(Unreachable, match=rf"{front.host}: .*{what} \(HTTP {status}: injected\)") as failed:
        through.manifest(pushed)
    assert not isinstance(failed.value, NoAnswer)
    assert failed.value.hint
    assert len(front.seen) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_passing_trouble_is_waited_out(front, through, pushed, status, method):
    front.faults.append(Fault("status", method=method, status=status, times=1))
    through.tag(pushed, "again")
    through.untag(pushed.with_tag("again"))
    assert through.digest(pushed.with_tag("1")) == pushed.digest
    assert through.digest(pushed.with_tag("again")) is None


def test_retry_after_is_honoured(front, through, pushed):
    front.faults.append(Fault("status", status=429, headers={"Retry-After": "2"}, times=1))
    began = time.monotonic()
    assert through.digest(pushed) == pushed.digest
    assert time.monotonic() - began >= 2


def test_a_lasting_trouble_ends(front, through, pushed):
    front.faults.append(Fault("status", status=503))
    with pytest.raises(Unreachable, match="HTTP 503"):
        through.digest(pushed)
    assert len(front.seen) == 5


@pytest.mark.parametrize("kind", ["hang", "drop"])
def test_no_answer_is_bounded_and_named(front, through, pushed, kind):
    front.faults.append(Fault(kind))
    began = time.monotonic()
    with pytest.raises(NoAnswer, match=f"{front.host}: asked for .*:.*, the registry does not answer"):
        through.digest(pushed)
    assert time.monotonic() - began < 30


def test_nobody_at_the_address():
    with pytest.raises(NoAnswer, match=r"127\.0\.0\.1:9: .*Connection refused"):
        OciRegistry("127.0.0.1:9").ping()


def test_a_server_that_is_no_registry(front, through):
    front.answer = lambda *_: Answer(200)
    with pytest.raises(Unreachable, match="is not from a registry"):
        through.repositories()


def test_changed_bytes_are_noticed(front, through, pushed):
    front.faults.append(Fault("corrupt", "GET", "/manifests/"))
    with pytest.raises(Unreachable, match=f"should be {pushed.digest} but is sha256:"):
        through.manifest(pushed.with_tag("1"))


def test_a_registry_that_does_not_delete_is_named(front, through, pushed):
    front.faults.append(Fault("status", "DELETE", status=405))
    with pytest.raises(Unreachable, match="deletion is disabled") as failed:
        through.delete(pushed)
    assert "REGISTRY_STORAGE_DELETE_ENABLED" in failed.value.hint


def test_untagging_never_deletes_by_the_tag_of_the_image(front, through, pushed):
    """Some registries would delete the image with all its tags then."""
    through.tag(pushed, "2")
    front.seen.clear()
    through.untag(pushed.with_tag("2"))
    methods = [method for method, path in front.seen if path.endswith("/manifests/2")]
    assert methods.index("PUT") < methods.index("DELETE")
    assert all(pushed.digest not in path for path in front.requests("DELETE"))


def test_a_manifest_of_another_kind_is_refused(staging, pushed):
    manifest = staging.manifest(pushed)
    with pytest.raises(BadInput, match="neither an image nor an index"):
        read_manifest(type(manifest)(manifest.digest, "x", b'{"schemaVersion": 1}'))


def test_a_proxy_of_the_environment_is_not_used_for_this_machine(staging, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    OciRegistry(staging.host).ping()
