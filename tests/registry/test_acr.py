"""Azure Container Registry by the real SDK and the real protocol, over HTTPS, against a front of a real registry."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import BuildRequest
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.identity.faults import TIMEOUTS
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.registry.copy import copy_image
from aml_images_dagster.registry.interface import NoAnswer
from aml_images_dagster.registry.oci import referrers_tag
from aml_images_dagster.settings import load_settings
from tests.emulators.azure.service import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.engine.docker_engine import DockerEngine
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.conftest import MakeContext
    from tests.emulators.azure.cloud import EmulatedCloud

pytestmark = pytest.mark.engine


@pytest.fixture
def backends(cloud: EmulatedCloud, tmp_path: Path) -> Backends:
    (tmp_path / "images").mkdir()
    return backends_for(load_settings(repo=tmp_path / "images"))


@pytest.fixture
def acr(backends: Backends) -> Registry:
    return backends.staging


@pytest.fixture
def pushed(cloud: EmulatedCloud, staging: OciRegistry, busybox: Reference) -> Reference:
    """A busybox in the emulated staging registry, tagged `one` and `two` in `apps/hello`."""
    copy_image(staging, cloud.staging.plain, busybox, "apps/hello", ["one", "two"])
    return Reference(cloud.staging.host, "apps/hello", "one", busybox.digest)


def tagged(reference: Reference, tag: str) -> Reference:
    return reference.with_tag(tag)


def test_tags_of_what_is_attached_to_images_are_no_tags_of_images(acr: Registry, pushed: Reference) -> None:
    tag = referrers_tag(pushed.digest)
    acr.tag(pushed, tag)
    assert sorted(acr.tags("apps/hello")) == ["one", "two"]
    assert acr.referrers_tags("apps/hello") == [tag]


def test_reading(acr: Registry, pushed: Reference, staging: OciRegistry, busybox: Reference) -> None:
    acr.ping()
    assert acr.digest(tagged(pushed, "one")) == pushed.digest
    assert acr.digest(tagged(pushed, "three")) is None
    assert acr.config(tagged(pushed, "one")) == staging.config(busybox)
    assert acr.size_bytes(pushed.with_digest(pushed.digest)) == staging.size_bytes(busybox)
    assert acr.repositories() == ["apps/hello"]
    assert acr.tags("apps/hello") == ["one", "two"]
    assert acr.tags("apps/unknown") == []


def test_every_page_of_a_list_is_read(
    acr: Registry, pushed: Reference, cloud: EmulatedCloud, staging: OciRegistry, busybox: Reference
) -> None:
    names = [f"tag{number:03}" for number in range(230)]
    copy_image(staging, cloud.staging.plain, busybox, "apps/hello", names)
    assert acr.tags("apps/hello") == ["one", *names, "two"]
    pages = [line for line in cloud.staging.exchanges("GET", "/_tags") if line.status == 200]
    assert len(pages) == 3


def test_tagging(acr: Registry, pushed: Reference) -> None:
    acr.tag(pushed.with_digest(pushed.digest), "three")
    assert acr.tags("apps/hello") == ["one", "three", "two"]


def test_untagging_leaves_the_other_tags(acr: Registry, pushed: Reference) -> None:
    for _ in range(2):  # absent is fine
        acr.untag(tagged(pushed, "one"))
        assert acr.tags("apps/hello") == ["two"]
    assert acr.digest(tagged(pushed, "two")) == pushed.digest


def test_the_last_tag_can_be_removed_too(acr: Registry, pushed: Reference) -> None:
    acr.untag(tagged(pushed, "one"))
    acr.untag(tagged(pushed, "two"))
    assert acr.digest(pushed.with_digest(pushed.digest)) == pushed.digest


def test_deleting_takes_all_tags(acr: Registry, pushed: Reference) -> None:
    for _ in range(2):  # absent is fine
        acr.delete(tagged(pushed, "one"))
        assert acr.digest(pushed.with_digest(pushed.digest)) is None
    assert acr.tags("apps/hello") == []


@pytest.mark.parametrize("remove", ["untag", "delete"])
def test_what_is_said_to_be_deleted_is_looked_for(
    acr: Registry, pushed: Reference, cloud: EmulatedCloud, remove: str
) -> None:
    cloud.staging.fail(202, method="DELETE")
    with pytest.raises(Unreachable, match="said that it deleted this but still serves"):
        getattr(acr, remove)(tagged(pushed, "one"))


def test_a_digest_is_not_untagged(acr: Registry, pushed: Reference) -> None:
    with pytest.raises(BadInput, match="a digest is not a tag"):
        acr.untag(pushed.with_digest(pushed.digest))


def test_pushing_with_a_login_of_the_moment(
    backends: Backends, cloud: EmulatedCloud, busybox: Reference, make_context: MakeContext
) -> None:
    reference, word = Reference(cloud.staging.host, "apps/pushed", "1"), uuid.uuid4().hex
    context = make_context({"Dockerfile": f"FROM {busybox}\nRUN echo {word}; sleep 2\n"})
    request = BuildRequest(context, "Dockerfile", str(reference), platform="linux/amd64", timeout_seconds=60)
    given_before: list[int] = []

    def log(line: str) -> None:
        if line.endswith(f" {word}"):
            given_before.append(len(cloud.staging.tokens))

    for _ in range(2):  # the second has everything in the cache, but no login
        pushed = backends.builder.build_and_push(request, log, still_wanted=lambda: None, started=lambda _: None)
        assert cloud.staging.exchanges("POST", "/oauth2/exchange")
        assert backends.staging.digest(reference) == pushed.digest
        cloud.staging.end_all_tokens()
        cloud.staging.log.clear()
    assert given_before == [0]


def test_pushing_through_a_storm_of_too_many_requests(
    backends: Backends,
    engine: DockerEngine,
    cloud: EmulatedCloud,
    busybox: Reference,
    make_context: MakeContext,
    tmp_path: Path,
) -> None:
    """BuildKit repeats a request some times, at once, and gives up."""
    assert isinstance(backends.builder, BuildKitBuilder)
    builder = BuildKitBuilder(
        Buildx(),
        engine,
        backends.login_for,
        features_file=tmp_path / "features.json",
        wait_seconds=1,
        push_seconds=60,
        pauses=(0.1, 0.1, 0.1),
    )
    reference = Reference(cloud.staging.host, "apps/pushed", "1")
    context = make_context({"Dockerfile": f"FROM {busybox}\nLABEL one=two\n"})
    request = BuildRequest(context, "Dockerfile", str(reference), platform="linux/amd64", timeout_seconds=60)
    storms = [
        cloud.staging.fail(429, method="POST", path="/blobs/uploads", times=None),
        cloud.staging.fail(429, method="PUT", path="/manifests/", times=None),
    ]
    ends = iter([storms[0], None, storms[1]])
    again: list[str] = []

    def log(line: str) -> None:
        if "pushing again" in line:
            again.append(line)
            if over := next(ends, None):
                over.times = 0

    pushed = builder.build_and_push(request, log, still_wanted=lambda: None, started=lambda _: None)
    assert backends.staging.digest(reference) == pushed.digest
    assert ["POST request" in line for line in again] == [True, False, False]
    assert all("429 Too Many Requests" in line for line in again)
    storms[1].times = None
    # What the registry has already is not put there again.
    another = replace(request, context=make_context({"Dockerfile": f"FROM {busybox}\nLABEL one=three\n"}))
    with pytest.raises(Unreachable, match="429 Too Many Requests") as refused:
        builder.build_and_push(another, log, still_wanted=lambda: None, started=lambda _: None)
    assert "wait some minutes" in refused.value.hint
    assert len(again) == 3 + 3


def test_logins_are_for_our_registries_only_and_each_is_fresh(backends: Backends, cloud: EmulatedCloud) -> None:
    first, second = (backends.login_for(cloud.staging.host) for _ in range(2))
    assert first is not None
    assert second is not None
    assert first.password != second.password
    assert first.password not in repr(first)
    assert backends.login_for("docker.io") is None
    assert backends.login_for("mcr.microsoft.com") is None


def test_tokens_that_end_in_the_middle_are_renewed(acr: Registry, pushed: Reference, cloud: EmulatedCloud) -> None:
    assert acr.digest(tagged(pushed, "one")) == pushed.digest
    cloud.staging.end_all_tokens()
    assert acr.digest(tagged(pushed, "one")) == pushed.digest
    assert acr.tags("apps/hello") == ["one", "two"]
    cloud.staging.end_all_tokens()
    acr.untag(tagged(pushed, "one"))
    assert acr.tags("apps/hello") == ["two"]


def test_tokens_that_live_for_seconds_are_renewed(acr: Registry, pushed: Reference, cloud: EmulatedCloud) -> None:
    """Near its end, the SDK would use a cached token of the registry again; and Entra's are of the same kind."""
    cloud.identity.life_seconds = cloud.staging.refresh_seconds = cloud.staging.access_seconds = 1
    for tag in ("one", "two"):
        issued = len(cloud.identity.issued)
        acr.untag(tagged(pushed, tag))
        assert len(cloud.identity.issued) > issued
        over = time.time() + 1.1
        while time.time() < over:
            acr.ping()
    assert acr.tags("apps/hello") == []


def test_a_storm_of_too_many_requests_is_waited_out(acr: Registry, pushed: Reference, cloud: EmulatedCloud) -> None:
    cloud.staging.fail(429, path="/oauth2/exchange", times=2, retry_after=1)
    cloud.staging.fail(429, path="/_tags", times=3, retry_after=1)
    cloud.staging.fail(429, path="/manifests/", times=2, retry_after=1)
    started = time.monotonic()
    assert acr.tags("apps/hello") == ["one", "two"]
    assert acr.digest(tagged(pushed, "one")) == pushed.digest
    assert time.monotonic() - started > 5  # what Retry-After asked for, in sum
    assert len(cloud.staging.exchanges(path="/_tags")) == 3 + 2


@pytest.mark.parametrize("status", [429, 503])
def test_a_storm_without_end_is_given_up(
    acr: Registry, pushed: Reference, cloud: EmulatedCloud, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TIMEOUTS, "retry_backoff_factor", 0.01)
    cloud.staging.fail(status, path="/manifests/", times=None, retry_after=0)
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        acr.digest(tagged(pushed, "one"))
    cloud.staging.fail(status, path="/_tags", times=None, retry_after=0)
    with pytest.raises(Unreachable, match=f"HTTP {status}"):
        acr.tags("apps/hello")


def test_a_connection_that_is_reset_is_tried_again(acr: Registry, pushed: Reference, cloud: EmulatedCloud) -> None:
    cloud.staging.faults += [Fault("reset", path="/_tags"), Fault("reset", path="/manifests/")]
    assert acr.tags("apps/hello") == ["one", "two"]
    assert acr.digest(tagged(pushed, "one")) == pushed.digest


def test_an_identity_that_the_registry_does_not_know(acr: Registry, cloud: EmulatedCloud) -> None:
    cloud.staging.known = False
    with pytest.raises(Unreachable, match="does not know this identity") as refused:
        acr.ping()
    assert "AcrPush" in refused.value.hint


def test_an_identity_that_may_only_pull(acr: Registry, pushed: Reference, cloud: EmulatedCloud) -> None:
    cloud.staging.allowed = frozenset({"pull", "metadata_read"})
    assert acr.tags("apps/hello") == ["one", "two"]
    for forbidden in (
        lambda: acr.tag(pushed.with_digest(pushed.digest), "x"),
        lambda: acr.untag(tagged(pushed, "one")),
    ):
        with pytest.raises(Unreachable) as refused:
            forbidden()
        assert "AcrDelete" in refused.value.hint
        assert refused.value.where == cloud.staging.host


def test_a_registry_that_is_gone(acr: Registry, cloud: EmulatedCloud) -> None:
    cloud.staging.__exit__()
    for ask in (acr.ping, acr.repositories):
        with pytest.raises((NoAnswer, Unreachable), match="does not answer"):
            ask()


def test_a_certificate_that_nobody_trusts(acr: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    with pytest.raises(Unreachable, match="unable to get local issuer"):
        acr.repositories()
