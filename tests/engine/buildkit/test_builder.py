"""BuildKit of the engine of this machine, for real."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import threading
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import docker.errors
import pytest

from aml_images_dagster.catalog.builder_features import REWRITE_TIMESTAMP
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.buildkit.builder import BuildKitBuilder
from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.interface import BuildRequest, RegistryLogin
from aml_images_dagster.errors import BuildFailed, Unreachable
from aml_images_dagster.registry.platforms import images_of
from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.emulators.token_registry import TokenRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aml_images_dagster.engine.docker_engine import DockerEngine
    from aml_images_dagster.registry.oci import OciRegistry

pytestmark = pytest.mark.engine
EPOCH = 1_700_000_000


def wanted() -> None:
    """Nothing has failed elsewhere."""


@pytest.fixture
def new_builder(engine: DockerEngine, tmp_path: Path) -> Callable[..., BuildKitBuilder]:
    def new(login_for=lambda _: None, **changes) -> BuildKitBuilder:
        options = {"wait_seconds": 1, "push_seconds": 60, "pauses": (0.1, 0.1), **changes}
        buildx = options.pop("buildx", Buildx())
        part = options.pop("engine", engine)
        return BuildKitBuilder(buildx, part, login_for, features_file=tmp_path / "features.json", **options)

    return new


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def parts() -> list[str]:
    """Digests of the images of an index, as they were about to be pushed."""
    return []


@pytest.fixture
def build(new_builder, make_context, staging: OciRegistry, repository: str, lines, parts):
    def run(text: str, tag: str = "built", builder: BuildKitBuilder | None = None, **changes):
        reference = changes.pop("reference", Reference(staging.host, repository, tag))
        files = {"Dockerfile": text, **changes.pop("files", {})}
        still_wanted = changes.pop("still_wanted", wanted)
        options = {"platform": "linux/amd64", "timeout_seconds": 120, "dockerfile": "Dockerfile", **changes}
        request = BuildRequest(make_context(files), tag=str(reference), **options)
        part = builder or new_builder()
        pushed = part.build_and_push(
            request, lines.append, still_wanted=still_wanted, started=lambda _: None, pushes=parts.append
        )
        return reference.with_digest(pushed.digest)

    return run


def layers_of(registry: OciRegistry, image: Reference) -> list[str]:
    return [layer["digest"] for layer in json.loads(registry.existing(image).body)["layers"]]


@contextmanager
def last_layer(registry: OciRegistry, image: Reference) -> Iterator[tarfile.TarFile]:
    with registry.open_blob(image.repository, layers_of(registry, image)[-1]) as blob:
        content = io.BytesIO(b"".join(iter(lambda: blob.read(1 << 20), b"")))
    with tarfile.open(fileobj=content) as layer:
        yield layer


def fresh() -> str:
    """An instruction that no cache has."""
    return f"RUN echo {uuid.uuid4()} > /word"


def test_what_is_pushed_is_what_the_registry_serves_and_the_engine_keeps_no_tag(build, busybox, staging, lines):
    pushed = build(
        f"FROM {busybox}\nARG WORD\nCOPY note /note\n{fresh()}; echo said $WORD\n",
        files={"note": "x"},
        build_args={"WORD": "hello"},
    )
    tagged = pushed.with_tag("built")
    assert staging.digest(tagged) == pushed.digest
    assert any(line.endswith(" said hello") for line in lines)
    client = docker.from_env()
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(str(tagged))
    client.close()


# What Python does: byte code fits its source if it has the time of the source.
COMPILED = "RUN touch -d @1800000000 /module.py && stat -c %Y /module.py > /compiled"


@pytest.mark.parametrize(("is_rewritten", "kept"), [(False, 1_800_000_000), (True, EPOCH)])
def test_files_keep_the_times_that_the_build_gave_them_unless_the_image_asks_for_others(
    build, new_builder, busybox, staging, is_rewritten: bool, kept: int
):
    if REWRITE_TIMESTAMP not in new_builder().features().supported:
        kept = 1_800_000_000
    pushed = build(f"FROM {busybox}\n{COMPILED}\n", epoch=EPOCH, rewrite_timestamp=is_rewritten)
    assert staging.config(pushed)["created"].startswith("2023-11-14T22:13:20")
    with last_layer(staging, pushed) as layer:
        assert layer.getmember("module.py").mtime == kept
        assert layer.extractfile("compiled").read() == b"1800000000\n"


def test_a_line_more_at_another_commit_leaves_the_layers_before_it_as_they_are(build, busybox, staging):
    text = f"FROM {busybox}\nWORKDIR /here\nCOPY note /note\n{fresh()}\n"
    files = {"note": "x"}
    before = layers_of(staging, build(text, epoch=EPOCH, files=files))
    assert layers_of(staging, build(f"{text}RUN echo more > /more\n", epoch=EPOCH + 1, files=files))[:-1] == before
    assert layers_of(staging, build(f"{text}ENV MORE=1\n", epoch=EPOCH + 2, files=files)) == before


def test_everything_of_the_context_has_its_time_links_too(new_builder, staging, repository, tmp_path, busybox):
    with tarfile.open(tmp_path / "context.tar", "w") as tar:
        for name, kind, content in (
            ("folder", tarfile.DIRTYPE, b""),
            ("folder/link", tarfile.SYMTYPE, b""),
            ("Dockerfile", tarfile.REGTYPE, f"FROM {busybox}\nCOPY . /all\n".encode()),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.mtime, member.size, member.mode, member.linkname = kind, EPOCH, len(content), 0o755, "x"
            tar.addfile(member, io.BytesIO(content))
    reference = Reference(staging.host, repository, "times")
    request = BuildRequest(tmp_path / "context.tar", "Dockerfile", str(reference), "linux/amd64", 120)
    new_builder().build_and_push(request, print, still_wanted=wanted, started=lambda _: None)
    with last_layer(staging, reference) as layer:
        times = {member.name: member.mtime for member in layer if member.name.startswith("all/")}
    assert times == dict.fromkeys(("all/folder", "all/folder/link", "all/Dockerfile"), EPOCH)


def test_an_older_image_with_the_same_tag_in_the_engine_is_not_published_instead(build, busybox, staging, engine):
    """Versions of buildx before 0.22 push twice, the second time what the engine has under the tag."""
    tag = build(f"FROM {busybox}\n{fresh()}\n").with_tag("built")
    engine.pull(str(tag), print)
    try:
        newer = build(f"FROM {busybox}\n{fresh()}\nLABEL which=newer\n")
        assert staging.digest(newer.with_tag("built")) == newer.digest
        assert staging.config(newer)["config"]["Labels"]["which"] == "newer"
    finally:
        engine.forget(str(tag))


def test_the_image_cannot_copy_the_rendered_dockerfile(build, busybox, lines):
    hidden = {
        ".dockerignore": ".dockerignore\n.own\nleft-out\n",
        ".own": f"FROM {busybox}\nCOPY . /x\n{fresh()}; ls -A /x\n",
    }
    build("FROM scratch\n", dockerfile=".own", files={**hidden, "left-out": "", "kept": ""})
    printed = [line.split()[1] for line in lines if len(line.split()) == 2]
    assert "kept" in printed
    assert not {"left-out", ".own", ".dockerignore"} & {*printed}


@pytest.mark.parametrize(
    ("instructions", "said", "in_log"),
    [
        ("RUN echo before; exit 3", "exit code: 3", "before"),
        ("RNU true", "unknown instruction: RNU", ""),
        ("COPY absent /", "absent", "COPY absent"),
        ("RUN sh -c 'kill -9 $$'; exit $?", "exit code: 137", ""),
        ("COPY --from=127.0.0.1:5000/tests/absent:1 / /", "absent", ""),
    ],
)
def test_a_failing_build_says_why(build, busybox, repository, staging, instructions, said, in_log):
    with pytest.raises(BuildFailed) as failed:
        build(f"FROM {busybox}\n{instructions}\n")
    assert said in str(failed.value)
    assert in_log in failed.value.log
    assert staging.tags(repository) == []


def running(word: str) -> list[str]:
    """Processes of this machine with a word in their command line."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and f"sleep\0{word}" in (process / "cmdline").read_text():
                found.append(process.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def gone(word: str, seconds: float = 20) -> bool:
    until = time.monotonic() + seconds
    while running(word) and time.monotonic() < until:
        time.sleep(0.1)
    return not running(word)


def new_sleep() -> str:
    return f"9{uuid.uuid4().int % 10**8:08}"


def test_a_build_ends_at_its_deadline(build, busybox):
    word = new_sleep()
    with pytest.raises(BuildFailed, match="stopped at its deadline of 3 s") as failed:
        build(f"FROM {busybox}\nRUN sleep {word}\n", timeout_seconds=3)
    assert f"RUN sleep {word}" in failed.value.log
    assert gone(word)


def test_a_build_that_is_not_wanted_any_more_is_ended_and_pushes_nothing(build, busybox, repository, staging):
    word = new_sleep()

    def still_wanted() -> None:
        if running(word):
            raise BuildFailed("something has failed elsewhere")

    with pytest.raises(BuildFailed, match="elsewhere"):
        build(f"FROM {busybox}\nRUN sleep {word}\n", still_wanted=still_wanted)
    assert gone(word)
    assert staging.tags(repository) == []


def test_a_client_that_is_killed_leaves_nothing(build, busybox):
    word = new_sleep()

    def kill() -> None:
        until = time.monotonic() + 60
        while not running(word) and time.monotonic() < until:
            time.sleep(0.1)
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and process.joinpath("cmdline").exists():
                command = process.joinpath("cmdline").read_bytes()
                if b"docker-buildx\0build" in command and b"/tests/" in command and word.encode() not in command:
                    parent = process.joinpath("status").read_text().partition("PPid:\t")[2].split()[0]
                    if int(parent) == os.getpid():
                        os.kill(int(process.name), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises((BuildFailed, Unreachable)):
        build(f"FROM {busybox}\nRUN sleep {word}\n")
    thread.join()
    assert gone(word)


def test_the_login_is_asked_for_when_it_is_needed_and_is_nowhere_else(
    build, new_builder, busybox, staging, tmp_path, lines
):
    secret, asked = "p4ssw0rd-of-robot", []

    def login_for(host: str) -> RegistryLogin:
        asked.append(host)
        return RegistryLogin("robot", secret)

    with TokenRegistry(staging.host, {"robot": secret}) as registry:
        where = Reference(registry.host, f"tests/{uuid.uuid4().hex[:12]}", "1")
        pushed = build(f"FROM {busybox}\n{fresh()}\n", builder=new_builder(login_for), reference=where)
        assert pushed.digest
        asked_before = len(asked)
        with pytest.raises(Unreachable, match="Sign in") as failed:
            build(f"FROM {busybox}\n{fresh()}\n", reference=where)
    assert asked_before >= 1
    assert set(asked) == {registry.host}
    assert secret not in f"{failed.value!r} {lines}"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_no_engine_at_the_address(build, new_builder, busybox):
    from aml_images_dagster.engine.docker_engine import DockerEngine

    host = "unix:///absent/docker.sock"
    builder = new_builder(buildx=Buildx(host), engine=DockerEngine(host))
    with pytest.raises(Unreachable, match="does not answer"):
        build(f"FROM {busybox}\n", builder=builder)
    with pytest.raises(Unreachable, match="does not answer"):
        builder.features()


def test_the_builder_is_asked_what_it_can_do_once(new_builder, tmp_path):
    builder = new_builder()
    features = builder.features()
    assert {"RUN --mount", "COPY --chmod"} <= features.supported
    assert "buildx" in features.builder
    before = (tmp_path / "features.json").stat().st_mtime_ns
    assert builder.features() == features
    assert (tmp_path / "features.json").stat().st_mtime_ns == before


@pytest.mark.usefixtures("emulation")
def test_several_platforms_make_an_index_whose_images_were_named_before(
    build, busybox_of_both, staging, parts, engine, lines
):
    pushed = build(
        f"FROM {busybox_of_both}\nARG TARGETARCH\nRUN echo $TARGETARCH $(uname -m); echo {uuid.uuid4()} > /word\n",
        platform="linux/amd64,linux/arm64",
    )
    images = images_of(staging, pushed)
    assert [*images] == ["linux/amd64", "linux/arm64"]
    assert set(parts) == {each.digest for each in images.values()}
    text = "\n".join(lines)
    assert "amd64 x86_64" in text
    assert "arm64 aarch64" in text
    assert engine.local_digest(str(pushed.with_tag("built"))) is None


def test_an_image_of_one_platform_names_no_others(build, busybox, parts):
    build(f"FROM {busybox}\n{fresh()}\n")
    assert parts == []


def test_a_platform_that_the_engine_does_not_emulate_is_one_clear_message(build, busybox):
    """A program of S/390: its header alone, which is all that the kernel reads to refuse it."""
    header = b"\x7fELF\x02\x02\x01" + bytes(9) + (2).to_bytes(2, "big") + (22).to_bytes(2, "big") + bytes(44)
    text = "FROM scratch\nCOPY --chmod=755 sh /bin/sh\nRUN true\n"
    with pytest.raises(BuildFailed, match="RUN cannot run for linux/s390x: the builder does not emulate it") as failed:
        build(text, files={"sh": header}, platform="linux/s390x")
    assert "qemu-user-static" in failed.value.hint
    with pytest.raises(BuildFailed, match="the build failed"):
        build(text, files={"sh": header})


@pytest.mark.usefixtures("emulation")
def test_an_index_whose_push_is_refused_leaves_images_that_are_known(
    build, busybox_of_both, staging, repository, parts
):
    with FaultyRegistry(staging.host) as front:
        front.faults.append(Fault("status", "PUT", "/manifests/halfway", status=403))
        reference = Reference(front.host, repository, "halfway")
        with pytest.raises(Unreachable, match="could not push"):
            build(f"FROM {busybox_of_both}\n{fresh()}\n", reference=reference, platform="linux/amd64,linux/arm64")
    left = [Reference(staging.host, repository, digest=digest) for digest in parts]
    assert len(left) == 2
    assert staging.digest(Reference(staging.host, repository, "halfway")) is None
    assert all(staging.digest(each) for each in left), "the images come before the index"
    for each in left:
        staging.delete(each)
