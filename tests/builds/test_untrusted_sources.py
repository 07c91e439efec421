"""What the files of a pull request can reach in the artifacts store: their own folder, and nothing else."""

from __future__ import annotations

import dataclasses
import io
import json
import posixpath
import tarfile
import threading
import uuid
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from upath import UPath

from aml_images_dagster.builds.artifacts import RELEASE_FILES, Artifacts, below
from aml_images_dagster.builds.housekeeping.cleanup import cleanup
from aml_images_dagster.builds.records import PassedImage, PinnedBase, TestedImage
from aml_images_dagster.builds.steps.isolation import check_triggers, reaching_out
from aml_images_dagster.builds.steps.recipe import secrets_of
from aml_images_dagster.builds.steps.reuse import passed_before, reusable
from aml_images_dagster.builds.steps.scenarios import test as run_scenarios
from aml_images_dagster.builds.steps.staging import reuse_staged, stage
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.oci import read_manifest
from aml_images_dagster.release.candidate import completed
from aml_images_dagster.settings import load_settings
from aml_images_dagster.testing.interface import JobResult
from tests.builds.in_memory import MemoryResolver
from tests.catalog.conftest import git_repository as git_repository  # a fixture
from tests.catalog.conftest import new_git_repository as new_git_repository  # a fixture
from tests.records import KEY, build_record, passed_scenario, staged_image

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.builds.records import StagedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.testing.interface import TestJob
    from tests.catalog.conftest import GitRepository
    from tests.image_repository import ImageRepository

    NewSession = Callable[..., BuildSession]

BUILD = "20261123.4f2a9c1e"
FORGED = "forged by a pull request"

names = st.one_of(
    st.sampled_from(["", ".", "..", ".. ", "...", "~", "C:", "..\\..", "build.json", ".records", "%2E%2E", "\udcff"]),
    st.text(min_size=1, max_size=5),
)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)


@pytest.mark.parametrize("root", ["/store/build", "memory://store/build"])
@settings(deadline=None)
@given(path=paths, other=paths)
def test_no_path_leads_out_of_the_sources_and_no_two_to_one_place(root: str, path: str, other: str) -> None:
    sources = UPath(root) / "sources"
    places = [below(sources, each).path for each in (path, other)]
    for place in places:
        assert place.startswith(f"{sources.path}/")
        assert posixpath.normpath(place) == place
        assert not set(place) & {"\\", ":", "\0"}
        assert not any(part.endswith((".", " ")) for part in place.split("/"))
    assert (places[0] == places[1]) == (path == other)


def test_usual_names_stay_as_they_are() -> None:
    for path in ("base_images/base/openmpi/Dockerfile", ".github/a b.yml", "é/x+y@1.0.txt"):
        assert below(UPath("/s"), path).path == f"/s/{path}"


def test_an_earlier_store_in_which_a_repository_lies_over_the_records_is_not_believed(
    tmp_path: Any,
) -> None:
    artifacts = Artifacts(str(tmp_path))
    folder, other = artifacts.build(BUILD), "20261123.00000000"

    def put(path: str, text: str) -> None:
        target = folder.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    put("jobs/config.json", "{}")
    assert folder.jobs() == ()
    put("build.json", build_record(other, status="succeeded").model_dump_json())
    with pytest.raises(BadInput, match="belongs to another folder"):
        folder.read_build()
    forged = staged_image("base/b", BUILD)
    for record in (forged, staged_image("base/a", other), staged_image("base/a", BUILD, reference=forged.reference)):
        put(".records/base/a/staged.json", record.model_dump_json())
        with pytest.raises(BadInput, match="belongs to another folder"):
            folder.read_staged("base/a")
    put(".records/base/a/tested.json", TestedImage(image="base/b", digest="", scenarios=()).model_dump_json())
    with pytest.raises(BadInput, match="belongs to another folder"):
        folder.read_tested("base/a")
    put(".records/base/a/remote_work", "")
    (folder.root / ".records/base/a/remote_work").write_bytes(b"\xff")
    assert folder.read_remote_work("base/a") == "�"


@pytest.mark.parametrize("field", ["build", "commit", "release_tag"])
def test_a_release_json_is_believed_only_beside_the_build_json_that_it_belongs_to(field: str, tmp_path: Any) -> None:
    folder = Artifacts(str(tmp_path)).build(BUILD)
    record = build_record(BUILD, status="succeeded")
    folder.create_build(record)
    release = {"version": 1, "build": BUILD, "source": "", "created": "2026-11-23T12:00:00Z", "images": []}
    release |= {"commit": record.commit, "release_tag": record.release_tag}
    (folder.root / "release.json").write_text(json.dumps(release))
    assert completed(BUILD, Artifacts(str(tmp_path))).build == BUILD
    (folder.root / "release.json").write_text(json.dumps(release | {field: "20990101.00000000"}))
    with pytest.raises(BadInput, match=r"the release\.json of another build"):
        completed(BUILD, Artifacts(str(tmp_path)))


class Passes:
    """Runs nothing, and says that it passed."""

    kind = "none"

    def run_all(self, jobs: list[TestJob], _: object) -> Iterator[JobResult]:
        for job in jobs:
            yield JobResult(job.name, "passed", 1.0, "", ())

    def cancel(self, _: str) -> list[str]:
        return []

    def live(self, _: str) -> list[str]:
        return []


@pytest.fixture
def build(new_session: NewSession) -> Callable[..., BuildSession]:
    """Stages and tests images, in the order of two pools: all are staged before the first is tested."""

    def run(*images: str, settings: Settings | None = None, **fields: Any) -> BuildSession:
        session = new_session(*images, **fields)
        session = dataclasses.replace(session, settings=settings or session.settings)
        backends = dataclasses.replace(session.backends, runner=Passes())  # type: ignore[arg-type]
        session = dataclasses.replace(session, backends=backends)
        session.begin()
        order = session.source.catalog.order(session.images)
        for name in order:
            stage(session, name, print)
        for name in order:
            staged = session.folder.read_staged(name)
            assert staged is not None
            run_scenarios(session, staged, print)
        return session

    return run


def staged_in(session: BuildSession, image: str) -> StagedImage:
    staged = session.folder.read_staged(image)
    assert staged is not None
    return staged


def trusted_files(session: BuildSession) -> dict[str, bytes]:
    """Every file of a build beside its sources, and of the store beside its builds."""
    root, sources = session.backends.artifacts.root, session.folder.root / "sources"
    found = (path for path in root.rglob("*") if path.is_file() and sources not in path.parents)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


@pytest.mark.engine
def test_a_commit_that_holds_every_name_of_the_records_changes_none(
    build: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    image_repository.git("checkout", "-q", "-b", "model")
    model = build("tools/shell", "apps/other", pull_request="6", releasable=False)
    before = f"{model.number}/"
    own = {name.removeprefix(before) for name in trusted_files(model) if name.startswith(before)}
    assert {"build.json", "run_information.json"} <= own
    shell = image_repository.image("tools/shell")
    own |= {
        *RELEASE_FILES,
        "drop/SHA256SUMS",
        "outcome.json",
        "failure.json",
        "cleanup.json",
        "build.json.damaged",
        "plan.json",
    }
    own |= {f".records/{shell}/{name}" for name in ("remote_work", "parent.json", "claimed", "logs/x.log")}
    for name in sorted(own - {"drop"}):
        image_repository.write(image_repository.root / name, FORGED)
    everything = [{"name": "all", "kind": "pytest", "path": "."}]
    image_repository.write(image_repository.folder("apps/other") / "tests.json", json.dumps({"scenarios": everything}))
    head = image_repository.commit("evil")

    session = build("tools/shell", "apps/other", commit=head, pull_request="7", releasable=False)
    kept = session.folder.root / "sources"
    assert {name for name in own if (kept / name).is_file()} == own - {"drop"}, "the attack was tried"
    assert [name for name, content in trusted_files(session).items() if FORGED.encode() in content] == []
    record = session.folder.read_build()
    assert record is not None
    assert (record.status, record.pull_request) == ("partial", "7")
    with pytest.raises(BadInput, match="for pull request 7"):
        completed(session.number, session.backends.artifacts)
    assert [job.scenario for job in session.folder.jobs()] == ["all"]
    assert cleanup(session.number, session.backends, "expired").clean


@pytest.mark.engine
def test_other_builds_reuse_nothing_that_a_pull_request_has_made_not_even_its_layers(
    build: Callable[..., BuildSession], image_repository: ImageRepository
) -> None:
    """Its RUN may have fetched something else than the same line does for the main branch."""
    name = image_repository.image("apps/other")
    fetch = "FROM busybox:latest\nCOPY python /bin/python\nRUN cat /proc/sys/kernel/random/uuid > /fetched\n"
    image_repository.write_image("apps/other", fetch)
    image_repository.commit("fetches")
    theirs = build("apps/other", pull_request="7", releasable=False)
    again = build("apps/other", pull_request="8", releasable=False)
    ours = build("apps/other")
    twice = build("apps/other")
    of_7, of_8, first, second = (staged_in(session, name) for session in (theirs, again, ours, twice))
    assert of_7.content_key == first.content_key
    assert (of_8.digest, of_8.built_in) == (of_7.digest, theirs.number), "pull requests reuse what others of them made"
    assert first.built_in == ours.number
    assert (second.digest, second.built_in) == (first.digest, ours.number)
    tested = twice.folder.read_tested(name)
    assert tested is not None
    assert [scenario.tested_in for scenario in tested.scenarios] == [ours.number]

    def layers(session: BuildSession, staged: StagedImage) -> list[str]:
        reference = session.staging_reference(session.image(name)).with_digest(staged.digest)
        found: list[str] = session.backends.staging.config(reference)["rootfs"]["diff_ids"]
        return found

    pulled, built = layers(theirs, of_7), layers(ours, first)
    assert len(pulled) == len(built)
    fetched = [index for index, pair in enumerate(zip(pulled, built, strict=True)) if pair[0] != pair[1]]
    assert fetched, "the layer that RUN has made is another one"
    later = build("apps/other", pull_request="9", releasable=False)
    assert staged_in(later, name).digest == first.digest, "a pull request reuses what the main branch made"


@pytest.mark.engine
def test_a_test_alone_does_not_run_on_what_a_pull_request_staged_last(
    build: Callable[..., BuildSession], new_session: NewSession, image_repository: ImageRepository
) -> None:
    name = image_repository.image("apps/other")
    theirs = build("apps/other", pull_request="7", releasable=False)
    with pytest.raises(BadInput, match="by a build of a pull request"):
        reuse_staged(new_session("apps/other"), name, theirs.number)
    reused = reuse_staged(new_session("apps/other", pull_request="7", releasable=False), name, theirs.number)
    assert reused.digest == staged_in(theirs, name).digest


def test_a_memory_of_an_earlier_version_is_used_as_far_as_its_builds_are_known_to_be_of_no_pull_request(
    tmp_path: Any,
) -> None:
    artifacts = Artifacts(str(tmp_path))
    ours, theirs, unknown = (f"20261123.0000000{digit}" for digit in "123")
    for build, pull_request in ((ours, ""), (theirs, "7")):
        artifacts.build(build).create_build(build_record(build, pull_request=pull_request))
        artifacts.build(build).write_staged(staged_image("base/a", build))

    def remember(staged: StagedImage) -> None:
        scenarios = tuple(passed_scenario(f"of-{build}", build, key=build) for build in (ours, theirs, unknown))
        tested = TestedImage(image="base/a", digest=staged.digest, scenarios=scenarios)
        artifacts.write_passed(PassedImage(staged=staged, tested=tested))

    remember(staged_image("base/a", ours))
    (passed,) = passed_before(KEY.digest, "base/a", artifacts)
    assert [record.tested_in for record in passed.tested.scenarios] == [ours]
    (passed,) = passed_before(KEY.digest, "base/a", artifacts, for_pull_request=True)
    assert len(passed.tested.scenarios) == 3
    for forged in (
        staged_image("base/a", theirs),
        staged_image("base/a", unknown),
        staged_image("base/a", ours, digest=f"sha256:{'6' * 64}"),
        staged_image("base/a", ours, content_key=KEY.model_copy(update={"dockerfile": "1"})),
    ):
        remember(forged)
        assert passed_before(forged.content_key.digest, "base/a", artifacts) == []


@pytest.mark.engine
def test_a_parent_that_a_build_uses_stays_when_the_build_that_made_it_is_cleaned_up(
    build: Callable[..., BuildSession], new_session: NewSession, image_repository: ImageRepository
) -> None:
    shell, hello = (image_repository.image(short) for short in ("tools/shell", "apps/hello"))
    made = build("tools/shell")
    session = new_session("apps/hello")
    staged = stage(session, hello, print)
    tag = session.staging_reference(session.image(shell))
    staging = session.backends.staging
    assert staging.digest(tag) == staged_in(made, shell).digest == staged.bases[0].digest
    assert cleanup(made.number, session.backends, "canceled").clean
    assert staging.digest(tag.with_digest(staged.bases[0].digest)) == staged.bases[0].digest
    assert reusable(staged_in(made, shell).content_key, session.image(shell), session.backends)
    report = cleanup(session.number, session.backends, "canceled")
    assert report.clean
    assert staging.digest(tag) is None
    assert staging.digest(tag.with_digest(staged.bases[0].digest)) is None


@pytest.mark.parametrize(
    ("instruction", "refused"),
    [
        ("RUN --network=host true", "RUN --network=host"),
        ("ONBUILD RUN --network=host true", "RUN --network=host"),
        ("RUN --security=insecure true", "RUN --security=insecure"),
        ("RUN --device=vendor.example/gpu true", "RUN --device=vendor.example/gpu"),
        ("ADD http://169.254.169.254/latest /x", "ADD http://169.254.169.254/latest"),
        ("ADD --checksum=sha256:0 https://host.example/a /x", "ADD https://host.example/a"),
        ("ADD git@host.example:a/b.git#main /x", "ADD git@host.example:a/b.git#main"),
        ("ADD GIT://10.0.0.1/b /x", "ADD GIT://10.0.0.1/b"),
        ("ADD HTTPS://host.example/a.git /x", "ADD HTTPS://host.example/a.git"),
        ("ADD HTTPS://host.example/a%2egit /x", "ADD HTTPS://host.example/a%2egit"),
        ("ADD Ssh://host.example/a /x", "ADD Ssh://host.example/a"),
        ("ADD 10.0.0.1:b /x", "ADD 10.0.0.1:b"),
        ("ARG A=http\nADD $A://host.example/ /x", "ADD $A://host.example/"),
        ("ADD $UNKNOWN /x", "ADD $UNKNOWN"),
        ('ADD ["https://host.example/a b", "/x"]', "ADD https://host.example/a b"),
    ],
)
def test_a_pull_request_may_not_reach_out_of_its_build(
    git_repository: GitRepository, instruction: str, refused: str
) -> None:
    git_repository.image("base/x", f"FROM debian:12\nRUN true\n{instruction}\n")
    (finding,) = reaching_out(git_repository.catalog().get("base/x"))
    assert finding.message.startswith(f"a pull request may not use {refused}")
    assert finding.severity == "error"
    assert finding.line in (3, 4)


METADATA = "http://169.254.169.254/latest"


@pytest.mark.parametrize(
    ("platforms", "text"),
    [
        ('"platform": "linux/arm64"', f"FROM debian:12\nARG TARGETARCH\nADD ${{TARGETARCH/arm64/{METADATA}}} /x\n"),
        (
            '"platforms": ["linux/amd64", "linux/arm64"]',
            f"FROM debian:12\nARG TARGETARCH\nADD ${{TARGETARCH/arm64/{METADATA}}} /x\n",
        ),
        (  # each platform has another address
            '"platforms": ["linux/amd64", "linux/arm64"]',
            "FROM debian:12\nARG TARGETARCH\nADD https://host.example/$TARGETARCH /x\n",
        ),
        (  # which stage FROM means depends on the platform
            '"platforms": ["linux/amd64", "linux/arm64"]',
            f"FROM scratch AS amd64\nENV A=amd64\nFROM scratch AS arm64\nENV A={METADATA}\n"
            "FROM $TARGETARCH\nADD $A /x\n",
        ),
    ],
)
def test_a_pull_request_may_reach_out_on_no_platform(git_repository: GitRepository, platforms: str, text: str) -> None:
    git_repository.image("base/x", text, image__json=f"{{{platforms}}}", amd64="a file")
    (finding,) = reaching_out(git_repository.catalog().get("base/x"))
    assert finding.message.startswith("a pull request may not use ADD")
    assert finding.line == text.count("\n")


@pytest.mark.parametrize(
    "text",
    [
        f"FROM scratch\nARG BUILDARCH\nADD ${{BUILDARCH/arm64/{METADATA}}} /x\n",
        f"FROM scratch\nARG BUILDPLATFORM\nADD ${{BUILDPLATFORM/linux*arm64/{METADATA}}} /x\n",
        f"FROM scratch\nARG BUILDOS\nADD ${{BUILDOS/freebsd/{METADATA}}} /x\n",
        f"FROM scratch\nARG BUILDVARIANT\nADD ${{BUILDVARIANT:+{METADATA}}} /x\n",
        f"FROM scratch\nARG BUILDARCH\nENV A=$BUILDARCH\nADD ${{A/arm64/{METADATA}}} /x\n",
        f"ARG A=$BUILDARCH\nFROM scratch\nARG A\nADD ${{A/arm64/{METADATA}}} /x\n",
        f"FROM scratch AS amd64\nENV A=amd64\nFROM scratch AS arm64\nENV A={METADATA}\nFROM $BUILDARCH\nADD $A /x\n",
        # A variable whose name is not known may be any.
        f"FROM scratch\nARG BUILDARCH\nENV arm64=amd64\nENV $BUILDARCH={METADATA}\nADD $arm64 /x\n",
        f"FROM debian:12\nENV a=amd64\nENV $NAME_OF_A={METADATA}\nADD $a /x\n",
        # The factory and the client have build arguments of their own.
        f"FROM scratch\nARG SOURCE_DATE_EPOCH\nADD amd64${{SOURCE_DATE_EPOCH:+{METADATA}}} /x\n",
        f"FROM scratch\nARG SOURCE_DATE_EPOCH=amd64\nADD ${{SOURCE_DATE_EPOCH/1*/{METADATA}}} /x\n",
        f"FROM scratch\nARG https_proxy\nADD ${{https_proxy:+{METADATA}}} /x\n",
        f"FROM scratch\nARG TARGETSTAGE\nADD ${{TARGETSTAGE:+{METADATA}}} /x\n",
        # A trigger has the values of the image that is FROM this one.
        "FROM scratch\nENV A=amd64\nONBUILD ADD $A /x\n",
    ],
)
def test_a_pull_request_may_reach_out_on_no_builder(git_repository: GitRepository, text: str) -> None:
    git_repository.image("base/x", text, amd64="a file")
    (finding,) = reaching_out(git_repository.catalog().get("base/x"))
    assert finding.message.startswith("a pull request may not use ")
    assert finding.line == text.count("\n")


def test_a_build_argument_of_the_factory_wins_over_one_of_a_pull_request(git_repository: GitRepository) -> None:
    text = f"FROM scratch\nARG SOURCE_DATE_EPOCH\nADD ${{SOURCE_DATE_EPOCH/1*/{METADATA}}} /x\n"
    git_repository.image("base/x", text, image__json='{"build_args": {"SOURCE_DATE_EPOCH": "amd64"}}', amd64="a file")
    (finding,) = reaching_out(git_repository.catalog().get("base/x"))
    assert finding.line == 3


def test_a_pull_request_may_use_what_stays_in_its_build(git_repository: GitRepository) -> None:
    text = (
        "FROM debian:12\nARG A=LICENSE.txt\nRUN --network=none true\nRUN --network=default curl https://x\nADD $A /\n"
    )
    text += "RUN --mount=type=secret,id=a --mount=type=cache,target=/c true\nCOPY --from=debian:12 / /x\n"
    text += "ARG TARGETARCH\nADD tool-$TARGETARCH /\nARG BUILD_NUMBER=1\nADD a-$BUILD_NUMBER.tar /\n"
    text += "ONBUILD ADD a.tar /\n"
    git_repository.image("base/x", text, image__json='{"platforms": ["linux/amd64", "linux/arm64"]}')
    assert [*reaching_out(git_repository.catalog().get("base/x"))] == []


class Fetched(BaseHTTPRequestHandler):
    """Counts what is fetched."""

    paths: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.paths.append(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.engine
def test_a_pull_request_may_not_reach_out_by_its_base(
    build: Callable[..., BuildSession],
    image_repository: ImageRepository,
    push_new_image: Callable[..., Reference],
    repository: str,
) -> None:
    """The builder runs ONBUILD of a base as if it stood in the Dockerfile, which does not show it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Fetched) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        base = push_new_image(repository, "1", OnBuild=[f"ADD {address}/file /fetched"])
        image_repository.write_image("apps/other", f"FROM {base}\nCOPY python /bin/python\n")
        image_repository.commit("another base")
        with pytest.raises(BadInput, match=f"may not use ADD {address}/file, .*: ONBUILD of its base"):
            build("apps/other", pull_request="7", releasable=False)
        assert Fetched.paths == []
        build("apps/other")
        assert "/file" in Fetched.paths, "the builder fetches it"
        server.shutdown()


@pytest.mark.parametrize(
    ("trigger", "refused"),
    [
        ("ADD https://host.example/a /x", True),
        ("ADD $A /x", True),
        ("RUN --network=host true", True),
        ("RUN true\nADD https://host.example/a /x", True),
        ("no instruction", True),
        ("COPY --from=10.0.0.5/x / /s", True),
        ("RUN --mount=type=bind,from=10.0.0.5/x,target=/a cp -r /a /b", True),
        ("ADD a.tar /", False),
        ("COPY . /app", False),
        ("RUN pip install -r requirements.txt", False),
    ],
)
def test_what_a_base_may_do_in_a_pull_request(
    git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch, trigger: str, refused: bool
) -> None:
    git_repository.image("base/x", "FROM debian:12\nRUN true\n")
    image = git_repository.catalog().get("base/x")
    resolver = MemoryResolver()
    monkeypatch.setattr(resolver, "triggers", lambda pull: (trigger,) if pull == "mirror.example/debian@it" else ())
    backends: Any = SimpleNamespace(resolver=resolver)
    base = PinnedBase(reference="debian:12", digest="it", pull="mirror.example/debian@it")
    ours, from_engine = base.model_copy(update={"image": "base/y"}), base.model_copy(update={"warning": "it is"})
    check_triggers(image, (ours, from_engine), backends)
    with pytest.raises(BadInput, match="ONBUILD of its base debian:12") if refused else nullcontext():
        check_triggers(image, (base,), backends)


@pytest.mark.engine
def test_a_pull_request_gets_no_secret_and_no_cache_mount_of_others(
    build: Callable[..., BuildSession],
    image_repository: ImageRepository,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Any,
) -> None:
    name, word = image_repository.image("apps/other"), f"s3cret-{uuid.uuid4()}"
    mounts = f"--mount=type=secret,id=word --mount=type=cache,id={uuid.uuid4()},target=/cache"
    seen = (
        "cat /run/secrets/word | wc -c > /seen; cat /cache/left >> /seen; echo from $(wc -c </seen) > /cache/left; true"
    )
    image_repository.write_image("apps/other", f"FROM busybox:latest\nCOPY python /bin/python\nRUN {mounts} {seen}\n")
    image_repository.write(image_repository.folder("apps/other") / "image.json", '{"secrets": ["word"]}')
    image_repository.commit("reads a secret")
    monkeypatch.setenv("THE_WORD", word)
    monkeypatch.setenv("AML_IMAGES_BUILD_SECRETS", "word=env:THE_WORD")

    def seen_by(session: BuildSession) -> str:
        staged = staged_in(session, name)
        reference = Reference.parse(staged.reference).with_digest(staged.digest)
        layers = read_manifest(session.backends.staging.existing(reference))["layers"]
        for layer in reversed(layers):
            with session.backends.staging.open_blob(reference.repository, layer["digest"]) as blob:
                content = io.BytesIO(blob.read())
            with tarfile.open(fileobj=content) as files:
                read = {member.name: files.extractfile(member) for member in files}
                contents = {name: file.read() for name, file in read.items() if file}
            assert not [name for name, found in contents.items() if word.encode() in found]
            if "seen" in contents:
                return contents["seen"].decode()
        raise AssertionError("nothing was seen")

    settings = load_settings(repo=image_repository.root)
    theirs = build("apps/other", settings=settings, pull_request="7", releasable=False)
    assert seen_by(theirs) == "0\n", "no secret"
    ours = build("apps/other", settings=settings)
    assert seen_by(ours) == f"{len(word)}\n", "nothing that a pull request has left in the cache"
    with (image_repository.folder("apps/other") / "Dockerfile").open("a") as file:
        file.write(f"RUN {mounts} : again; {seen}\n")
    again = build("apps/other", settings=settings)
    assert seen_by(again).startswith(f"{len(word)}\nfrom "), "which others share"
    with pytest.raises(BadInput, match="no setting says where the secret word"):
        secrets_of(ours.image(name), load_settings(repo=image_repository.root, build_secrets={}))
    for path in [*image_repository.root.rglob("*"), *tmp_path.rglob("*")]:
        assert not (path.is_file() and word.encode() in path.read_bytes()), path
