"""What a build attaches to an image that has passed, against the real engine and registries."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.housekeeping.cleanup import anything_left, cleanup
from aml_images_dagster.builds.housekeeping.janitor import sweep
from aml_images_dagster.builds.records import TestedImage
from aml_images_dagster.builds.steps import scenarios
from aml_images_dagster.builds.steps.evidence import Evidence
from aml_images_dagster.builds.steps.staging import stage
from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput, BuildStopped, Unreachable
from aml_images_dagster.registry.interface import Manifest
from aml_images_dagster.registry.oci import OCI_INDEX, referrers_tag
from aml_images_dagster.release.candidate import check_verified
from aml_images_dagster.release.production import Releaser
from aml_images_dagster.release.release_files import publish
from aml_images_dagster.settings import load_settings
from aml_images_dagster.trust.notary import ARTIFACT_TYPE
from aml_images_dagster.trust.referrers import content_of, delete, listed, walk
from aml_images_dagster.trust.sbom import LICENCE_TEXTS
from aml_images_dagster.trust.signing import trust_of
from aml_images_dagster.trust.verification import verify_image
from tests.records import build_record

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.housekeeping.janitor import RunState
    from aml_images_dagster.builds.records import BuildFailure, StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.release.release_json import ReleaseJson
    from aml_images_dagster.settings import Settings
    from tests.image_repository import ImageRepository

pytestmark = pytest.mark.engine


def _silent(_: str) -> None:
    pass


def _passed(session: BuildSession, image: str) -> tuple[StagedImage, TestedImage]:
    """An image that is built and tested in a build."""
    session.folder.write_run_information()
    staged = stage(session, image, _silent)
    return staged, scenarios.test(session, staged, _silent)


def _by_digest(staged: StagedImage, registry: Registry, repository: str = "") -> Reference:
    return Reference(registry.host, repository or staged.image.partition("/")[0], digest=staged.digest)


def _verified(registry: Registry, image: Reference, settings: Settings) -> bool:
    return verify_image(registry, image, trust_of(settings), settings.trust.required, datetime.now(UTC)).ok


def _kinds(registry: Registry, image: Reference) -> list[str]:
    return sorted(attached.artifact_type for attached in listed(registry, image))


@pytest.fixture
def image(image_repository: ImageRepository) -> str:
    """An image without scenarios."""
    return image_repository.image("tools/shell")


def test_an_image_that_has_passed_is_signed_and_has_sbom_and_provenance(
    new_session: Callable[..., BuildSession], backends: Backends, settings: Settings, image: str
) -> None:
    session = new_session("tools/shell")
    staged, _ = _passed(session, image)
    there = _by_digest(staged, backends.staging)

    assert _verified(backends.staging, there, settings)
    record = session.folder.read_evidence(image)
    assert record is not None
    assert record.is_test_key
    assert record.attached_in == session.number
    assert {each.digest for each in record.artifacts} == {each.digest for each in walk(backends.staging, there)}
    bundle = next(each for each in listed(backends.staging, there) if "sigstore" in each.artifact_type)
    _, content = content_of(backends.staging, there.repository, bundle)
    assert b"PRIVATE KEY" not in content


def test_texts_of_licences_in_the_image_are_attached_and_signed(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    image: str,
    image_repository: ImageRepository,
) -> None:
    folder = image_repository.folder("tools/shell")
    with (folder / "Dockerfile").open("a") as dockerfile:
        dockerfile.write("COPY greeting /usr/share/common-licenses/GREETING\n")
    image_repository.commit("a licence")
    session = new_session("tools/shell")
    staged, _ = _passed(session, image)
    there = _by_digest(staged, backends.staging)

    (texts,) = (each for each in listed(backends.staging, there) if each.artifact_type == LICENCE_TEXTS)
    _, content = content_of(backends.staging, there.repository, texts)
    assert "/usr/share/common-licenses/GREETING\n" in content.decode()
    assert content.endswith(b"\nhello\n")
    assert _kinds(backends.staging, there.with_digest(texts.digest)) == [ARTIFACT_TYPE]


def test_an_image_that_is_reused_keeps_its_own_and_gets_none_twice(
    new_session: Callable[..., BuildSession], backends: Backends, image: str
) -> None:
    first, second = new_session("tools/shell"), new_session("tools/shell")
    staged, _ = _passed(first, image)
    before = _kinds(backends.staging, _by_digest(staged, backends.staging))

    again, _ = _passed(second, image)

    assert again.digest == staged.digest
    assert _kinds(backends.staging, _by_digest(staged, backends.staging)) == before
    assert second.folder.read_evidence(image) == first.folder.read_evidence(image)


def test_the_image_of_a_pull_request_is_not_signed(
    new_session: Callable[..., BuildSession], backends: Backends, image: str
) -> None:
    session = new_session("tools/shell", pull_request="7")
    staged, _ = _passed(session, image)

    assert _kinds(backends.staging, _by_digest(staged, backends.staging)) == []
    assert session.folder.read_evidence(image) is None


def test_cleanup_leaves_nothing_of_it(new_session: Callable[..., BuildSession], backends: Backends, image: str) -> None:
    session = new_session("tools/shell")
    staged, _ = _passed(session, image)
    there = _by_digest(staged, backends.staging)
    digests = [each.digest for each in walk(backends.staging, there)]

    report = cleanup(session.number, backends, "failed")

    assert report.clean, report
    assert [digest for digest in (*digests, staged.digest) if backends.staging.digest(there.with_digest(digest))] == []
    assert backends.staging.referrers_tags(there.repository) == []


def test_an_image_that_two_builds_share_keeps_its_evidence_until_the_last_is_cleaned_up(
    new_session: Callable[..., BuildSession], backends: Backends, settings: Settings, image: str
) -> None:
    first, second = new_session("tools/shell"), new_session("tools/shell")
    staged, _ = _passed(first, image)
    _passed(second, image)
    there = _by_digest(staged, backends.staging)

    assert cleanup(first.number, backends, "failed").clean
    assert _verified(backends.staging, there, settings)
    assert not anything_left(first.number, backends)

    assert cleanup(second.number, backends, "failed").clean
    assert backends.staging.digest(there) is None
    assert backends.staging.referrers_tags(there.repository) == []


@pytest.mark.parametrize("when", ["before its first list", "after its first list", "before its last list"])
def test_the_cleanup_of_a_build_with_the_same_bytes_takes_nothing_that_is_being_attached(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    settings: Settings,
    image: str,
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its SBOM has the digest that the other build had recorded, and no list has it yet."""
    first, second = new_session("tools/shell"), new_session("tools/shell")
    _passed(first, image)
    assert cleanup(first.number, backends, "failed").clean
    second.folder.write_run_information()
    staged = stage(second, image, _silent)
    there = _by_digest(staged, backends.staging)
    assert not anything_left(first.number, backends)
    send, found = backends.staging.send_manifest, list[bool]()

    def clean_up_beside() -> None:
        if not found:
            found.append(anything_left(first.number, backends))
            cleanup(first.number, backends, "failed")

    def send_beside(repository: str, version: str, manifest: Manifest) -> Any:
        is_list, is_last = version.startswith("sha256-"), version == referrers_tag(staged.digest)
        if is_last if when == "before its last list" else is_list and when == "before its first list":
            clean_up_beside()
        answer = send(repository, version, manifest)
        if is_list and when == "after its first list":
            clean_up_beside()
        return answer

    monkeypatch.setattr(backends.staging, "send_manifest", send_beside)
    scenarios.test(second, staged, _silent)

    assert found == [True], "the other build was not looked at in between"
    assert _verified(backends.staging, there, settings)
    record = second.folder.read_evidence(image)
    assert record is not None
    assert {each.digest for each in record.artifacts} == {each.digest for each in walk(backends.staging, there)}
    assert cleanup(second.number, backends, "failed").clean
    assert not anything_left(first.number, backends)
    assert not anything_left(second.number, backends)
    assert backends.staging.referrers_tags(there.repository) == []


class Over:
    """Every run has failed."""

    def state(self, _: str) -> RunState:
        return "failed"

    def failure(self, _: str) -> BuildFailure | None:
        return None


def _begun(session: BuildSession, image: str, **fields: Any) -> None:
    """The record of a build, without which the janitor knows of none."""
    record = build_record(session.number, images=(image,), created=session.created, **fields)
    session.folder.create_build(record)


def _of_the_image(staged: StagedImage, registry: Registry) -> list[str]:
    """What there is of an image: itself, and what is attached to it."""
    there = _by_digest(staged, registry)
    found = [staged.digest, *(attached.digest for attached in walk(registry, there))]
    return [digest for digest in found if registry.digest(there.with_digest(digest))]


def test_the_janitor_removes_the_evidence_of_a_build_that_has_expired(
    new_session: Callable[..., BuildSession], backends: Backends, settings: Settings, image: str
) -> None:
    session = new_session("tools/shell")
    _begun(session, image, status="succeeded")
    staged, _ = _passed(session, image)
    everything = _of_the_image(staged, backends.staging)
    expires = session.created + timedelta(days=settings.keep_staged_days)

    assert sweep(backends, settings, Over(), expires - timedelta(minutes=1)) == []
    assert _verified(backends.staging, _by_digest(staged, backends.staging), settings)
    (report,) = sweep(backends, settings, Over(), expires + timedelta(minutes=1))

    assert report.clean
    there = _by_digest(staged, backends.staging)
    assert [digest for digest in everything if backends.staging.digest(there.with_digest(digest))] == []
    assert backends.staging.referrers_tags(there.repository) == []


def test_a_failed_build_that_is_kept_keeps_its_evidence_as_long_as_its_images(
    new_session: Callable[..., BuildSession], backends: Backends, settings: Settings, image: str
) -> None:
    session = new_session("tools/shell")
    until = session.created + timedelta(hours=1)
    _begun(session, image, keep_until=until)
    staged, _ = _passed(session, image)

    sweep(backends, settings, Over(), until - timedelta(minutes=1))
    assert _verified(backends.staging, _by_digest(staged, backends.staging), settings)

    sweep(backends, settings, Over(), until + timedelta(minutes=1))
    assert _of_the_image(staged, backends.staging) == []
    assert backends.staging.referrers_tags(image.partition("/")[0]) == []


def test_the_janitor_removes_evidence_whose_image_others_have_deleted(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    settings: Settings,
    image_repository: ImageRepository,
    image: str,
) -> None:
    def passed(status: str) -> StagedImage:
        image_repository.write(image_repository.folder("tools/shell") / "greeting", uuid.uuid4().hex)
        session = new_session("tools/shell")
        _begun(session, image, status=status)
        return _passed(session, image)[0]

    stays, goes = passed("succeeded"), passed("succeeded")
    left = _of_the_image(goes, backends.staging)
    backends.staging.delete(_by_digest(goes, backends.staging))
    passed("running")

    (report,) = sweep(backends, settings, Over(), datetime.now(UTC))

    assert report.clean
    there = _by_digest(goes, backends.staging)
    assert [row.name for row in report.rows if row.kind == "orphaned evidence"] == [str(there)]
    assert [digest for digest in left if backends.staging.digest(there.with_digest(digest))] == []
    assert _verified(backends.staging, _by_digest(stays, backends.staging), settings)


def test_a_list_that_arrives_after_the_cleanup_is_found(
    new_session: Callable[..., BuildSession], backends: Backends, image: str
) -> None:
    """A process was killed, and what it had sent before was on its way. This registry takes no list of what is gone."""
    session = new_session("tools/shell")
    staged, _ = _passed(session, image)
    staging, there = backends.staging, _by_digest(staged, backends.staging)
    sbom = next(each for each in listed(staging, there) if "spdx" in each.artifact_type)
    cleanup(session.number, backends, "failed")
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    late = Manifest(f"sha256:{hashlib.sha256(body).hexdigest()}", OCI_INDEX, body)
    staging.put_manifest(there.repository, referrers_tag(sbom.digest), late)

    assert anything_left(session.number, backends)
    assert cleanup(session.number, backends, "failed").clean
    assert staging.referrers_tags(there.repository) == []


@pytest.mark.parametrize("pushed", range(0, 8, 2))
def test_a_step_that_is_killed_while_it_attaches_leaves_nothing_behind_after_cleanup(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    image: str,
    pushed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Killed(BaseException):
        """Nothing runs after it, as after SIGKILL."""

    session = new_session("tools/shell")
    session.folder.write_run_information()
    staged = stage(session, image, _silent)
    there = _by_digest(staged, backends.staging)
    sent: list[str] = []
    stored: list[str] = []
    put = backends.staging.put_manifest

    def put_some(repository: str, version: str, manifest: Any) -> None:
        sent.append(version)
        if len(sent) > pushed:
            raise Killed
        put(repository, version, manifest)
        stored.append(version)

    monkeypatch.setattr(backends.staging, "put_manifest", put_some)
    with pytest.raises(Killed):
        scenarios.test(session, staged, _silent)
    monkeypatch.setattr(backends.staging, "put_manifest", put)

    assert cleanup(session.number, backends, "failed").clean
    assert [version for version in stored if backends.staging.digest(there.with_digest(version))] == []
    assert not anything_left(session.number, backends)


def test_nothing_is_attached_for_a_build_that_has_ended_meanwhile(
    new_session: Callable[..., BuildSession], backends: Backends, image: str
) -> None:
    session = new_session("tools/shell")
    session.folder.write_run_information()
    staged = stage(session, image, _silent)
    evidence_of_it = Evidence(session, staged, None)
    tested = TestedImage(image=image, digest=staged.digest, scenarios=())
    session.folder.finish("canceled")

    with pytest.raises(BuildStopped):
        evidence_of_it.attach(tested, _silent)
    assert _kinds(backends.staging, _by_digest(staged, backends.staging)) == []


def test_a_registry_that_refuses_fails_the_image(
    new_session: Callable[..., BuildSession], backends: Backends, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = new_session("tools/shell")
    session.folder.write_run_information()
    staged = stage(session, image, _silent)

    def refuse(*_: object) -> None:
        raise Unreachable("the registry refuses: denied", where=backends.staging.host)

    monkeypatch.setattr(backends.staging, "upload_blob", refuse)
    with pytest.raises(Unreachable):
        scenarios.test(session, staged, _silent)

    assert session.folder.read_tested(image) is None
    assert session.backends.artifacts.read_passed(staged.content_key.digest, image) is None


def _released(session: BuildSession, *images: str) -> ReleaseJson:
    for image in images:
        _passed(session, image)
    return publish(session).release


@pytest.fixture
def of_a_commit(image_repository: ImageRepository) -> str:
    """The commit that is checked out."""
    return git.resolve(image_repository.root, "HEAD")


def test_production_has_all_evidence_before_latest_moves_wherever_a_release_is_killed(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    settings: Settings,
    image_repository: ImageRepository,
    of_a_commit: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [image_repository.image(name) for name in ("tools/shell", "apps/other")]
    session = new_session("tools/shell", "apps/other", commit=of_a_commit)
    release = _released(session, *names)
    put = backends.production.put_manifest
    places = {name.rpartition(":")[0] for each in release.images for name in each.destinations}
    tries = 0

    class Killed(BaseException):
        """Nothing runs after it, as after SIGKILL."""

    def every_latest_is_verified() -> None:
        for place in places:
            latest = Reference(backends.production.host, place, "latest")
            if backends.production.digest(latest):
                assert _verified(backends.production, latest, settings)

    while True:
        left = tries

        def put_some(repository: str, version: str, manifest: Any) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            put(repository, version, manifest)

        monkeypatch.setattr(backends.production, "put_manifest", put_some)
        try:
            Releaser(backends, settings, "somebody", _silent).release(release)
        except Killed:
            every_latest_is_verified()
            tries += 1
        else:
            break

    assert tries > 10
    for place in places:
        assert _verified(backends.production, Reference(backends.production.host, place, "latest"), settings)


def test_an_image_without_valid_evidence_is_not_released(
    new_session: Callable[..., BuildSession],
    backends: Backends,
    image_repository: ImageRepository,
    of_a_commit: str,
    image: str,
) -> None:
    strict = load_settings(repo=image_repository.root, trust={"release_verified": True})
    session = new_session("tools/shell", commit=of_a_commit)
    release = _released(session, image)
    check_verified(release, backends.staging, strict)
    there = Reference.parse(release.images[0].staging.reference).with_digest(release.images[0].staging.digest)
    signature = next(each for each in listed(backends.staging, there) if "notary" in each.artifact_type)
    backends.staging.delete(there.with_digest(signature.digest))

    with pytest.raises(BadInput) as caught:
        Releaser(backends, strict, "somebody", _silent).plan(release)

    assert "signature: " in caught.value.what
    assert "aml-images verify" in caught.value.hint
    delete(backends.staging, there)


def test_release_json_names_what_is_attached(
    new_session: Callable[..., BuildSession], backends: Backends, of_a_commit: str, image: str
) -> None:
    session = new_session("tools/shell", commit=of_a_commit)
    release = _released(session, image)

    (entry,) = json.loads(release.model_dump_json())["images"]
    there = Reference.parse(entry["staging"]["reference"]).with_digest(entry["staging"]["digest"])
    assert [each["digest"] for each in entry["evidence"]] == [
        each.digest
        for each in session.folder.read_evidence(image).artifacts  # type: ignore[union-attr]
    ]
    assert {each["digest"] for each in entry["evidence"]} == {each.digest for each in walk(backends.staging, there)}
