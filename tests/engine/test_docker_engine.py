"""The engine of this machine, for real."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from typing import TYPE_CHECKING

import docker
import docker.errors
import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.docker_engine import DockerEngine, _build_mark
from aml_images_dagster.engine.interface import BuildRequest, RegistryLogin
from aml_images_dagster.errors import BadInput, BuildFailed, Unreachable
from tests.emulators.token_registry import TokenRegistry
from tests.memory import memory_growth

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def build(engine, make_context, staging, repository, lines):
    tags = []

    def run(text: str, tag: str = "built", part: DockerEngine = engine, **changes):
        files = changes.pop("files", {})
        reference = str(Reference(staging.host, repository, tag))
        tags.append(reference)
        options = {"platform": "linux/amd64", "timeout_seconds": 120, "dockerfile": "Dockerfile", **changes}
        request = BuildRequest(make_context({options["dockerfile"]: text, **files}), tag=reference, **options)
        return part.build(request, lines.append), reference

    yield run
    for tag in tags:
        engine.forget(tag)


@pytest.fixture
def client():
    client = docker.from_env()
    yield client
    client.close()


def test_importing_the_engine_does_not_import_docker():
    code = "import sys, aml_images_dagster.engine.docker_engine; sys.exit('docker' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_the_cache_everything_runs_again(build, busybox):
    text = f"FROM {busybox}\nRUN head -c 16 /dev/urandom | md5sum > /random\n"
    first, _ = build(text, "first")
    cached, _ = build(text, "cached")
    again, _ = build(text, "again", no_cache=True)
    assert cached.image_id == first.image_id
    assert again.image_id != first.image_id


def test_info_describes_the_engine(engine):
    info = engine.info()
    assert (info.os, info.architecture) == ("linux", "amd64")
    assert info.version[0].isdigit()
    assert info.free_bytes is None or info.free_bytes > 0
    assert info.network_mtu is None or 576 <= info.network_mtu <= 65535


def test_build_passes_on_all_that_the_request_says(build, busybox, client, lines):
    built, reference = build(
        # The label: another test that ends at this moment takes cached parents of its image with it.
        f"FROM {busybox} AS first\nLABEL test={uuid.uuid4().hex}\nARG WORD\nCOPY note /note\n"
        'RUN echo "said $WORD"\nFROM first AS second\nRUN false\n',
        dockerfile="deep/Dockerfile",
        files={"note": "text"},
        build_args={"WORD": "hello"},
        target="first",
        network="none",
    )
    image = client.images.get(reference)
    assert image.id == built.image_id
    assert (built.os, built.architecture) == ("linux", "amd64")
    assert built.size_bytes == image.attrs["Size"]
    assert "said hello" in lines


def test_the_mark_of_our_build_containers_does_not_reach_the_image(build, busybox, client):
    built, _ = build(f"FROM {busybox}\nRUN grep aml-images-build.invalid /etc/hosts && echo {uuid.uuid4()}\n")
    said = client.containers.run(built.image_id, ["cat", "/etc/hosts"], remove=True)
    assert b"aml-images" not in said
    assert "aml-images" not in str(client.api.inspect_image(built.image_id)["Config"])


@pytest.mark.parametrize(
    ("instructions", "said", "in_log"),
    [
        ("RUN echo before; exit 3", "non-zero code: 3", "before"),
        ("RNU true", "unknown instruction: RNU", ""),
        ("COPY absent /", "absent", "COPY absent"),
        ("RUN sh -c 'kill -9 $$'; exit $?", "non-zero code: 137", ""),
    ],
)
def test_a_failing_build_says_why_and_leaves_nothing(build, busybox, client, instructions, said, in_log):
    marker = f"LABEL test={uuid.uuid4().hex}"
    with pytest.raises(BuildFailed) as failed:
        build(f"FROM {busybox}\n{marker}\n{instructions}\n")
    assert said in str(failed.value)
    assert in_log in failed.value.log
    assert not client.containers.list(ignore_removed=True, all=True, filters={"label": marker.removeprefix("LABEL ")})


def test_a_log_without_line_ends_is_cut(build, busybox, lines):
    with memory_growth() as memory, pytest.raises(BuildFailed) as failed:
        build(
            f"FROM {busybox}\nRUN head -c 300000000 /dev/zero | tr '\\0' x; echo; echo {uuid.uuid4()} the end; exit 3\n"
        )
    assert max(map(len, lines)) <= 64 * 1024
    assert 60e6 < sum(map(len, lines)) < 70e6
    assert "the end" in failed.value.log
    assert len(failed.value.log) < 200_000
    assert memory.peak < 150e6  # the test itself keeps 64 MiB of lines


def test_a_missing_base_fails_the_build(build, staging):
    with pytest.raises(BuildFailed, match=r"manifest unknown|not found"):
        build(f"FROM {staging.host}/tests/absent:1\n")


def test_a_base_behind_a_login_is_pulled_with_it(build, staging, pushed, client, lines):
    secret = "correct-horse-battery"
    with TokenRegistry(staging.host, {"robot": secret}) as guarded:
        base = f"{guarded.host}/{pushed.repository}@{pushed.digest}"
        text = f"FROM {base}\nLABEL test={uuid.uuid4().hex}\n"
        with pytest.raises(BuildFailed):
            build(text)
        built, _ = build(text, logins={guarded.host: RegistryLogin("robot", secret)})
    assert client.api.inspect_image(built.image_id)["Os"] == "linux"
    assert secret not in "".join(lines)
    client.api.remove_image(base)


def test_a_silent_build_ends_at_its_deadline_and_so_does_the_engine(build, busybox, client):
    label = f"test={uuid.uuid4().hex}"
    began = time.monotonic()
    with pytest.raises(BuildFailed, match="stopped at its deadline of 8 s") as failed:
        build(f"FROM {busybox}\nLABEL {label}\nRUN sleep 60\n", timeout_seconds=8)
    assert time.monotonic() - began < 40
    assert "RUN sleep 60" in failed.value.log
    end = time.monotonic() + 20
    while client.containers.list(ignore_removed=True, all=True, filters={"label": label}) and time.monotonic() < end:
        time.sleep(0.2)
    assert not client.containers.list(ignore_removed=True, all=True, filters={"label": label})


def test_another_platform_than_asked_for_fails_the_build(build, busybox, client, staging, repository):
    with pytest.raises(BuildFailed, match=r"built for linux/amd64, not for linux/arm64|No such image"):
        build(f"FROM {busybox}\n", platform="linux/arm64")
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(f"{staging.host}/{repository}:built")


def test_too_little_space_is_said_before_the_build(build, busybox, tmp_path, lines):
    picky = DockerEngine(free_space_path=tmp_path, min_free_bytes=10**18)
    with pytest.raises(BuildFailed, match=rf"GB are free in {tmp_path}, a build needs 1000000000\.0 GB"):
        build(f"FROM {busybox}\n", part=picky)
    assert not lines


def test_push_and_pull_agree_with_the_registry(engine, build, busybox, staging, lines):
    built, reference = build(f"FROM {busybox}\nRUN echo {uuid.uuid4()} > /word\n")
    digest = engine.push(reference, lines.append)
    tagged = Reference.parse(reference)
    assert staging.digest(tagged) == digest == engine.local_digest(reference)
    engine.forget(reference)
    assert engine.local_digest(reference) is None
    pinned = str(tagged.with_digest(digest))
    assert engine.pull(pinned, lines.append) == built.image_id
    assert engine.local_digest(pinned) == digest
    engine.forget(pinned)


def test_pushing_what_is_not_there_is_explained(engine, staging, repository, lines):
    with pytest.raises(Unreachable, match="Build or pull it first"):
        engine.push(f"{staging.host}/{repository}:absent", lines.append)


def test_pulling_what_is_not_there_is_explained(engine, staging, repository, lines):
    with pytest.raises(Unreachable, match="has no such image"):
        engine.pull(f"{staging.host}/{repository}:absent", lines.append)


def test_no_registry_at_the_address(engine, pushed, lines):
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:9 running") as failed:
        engine.pull("127.0.0.1:9/tests/any:1", lines.append, RegistryLogin("robot", "s3cret-word"))
    assert "s3cret-word" not in f"{failed.value!r} {lines}"


def test_the_cache_image_replaces_the_one_before(engine, build, busybox, client):
    cache = f"tests-cache/{uuid.uuid4().hex[:8]}:latest"
    ids = []
    for word in ("one", "two"):
        built, reference = build(f"FROM {busybox}\nRUN echo {uuid.uuid4()} {word} > /word\n")
        engine.keep_as_cache(reference, cache)
        ids.append(built.image_id)
        with pytest.raises(docker.errors.ImageNotFound):
            client.images.get(reference)
    assert client.images.get(cache).id == ids[1]
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(ids[0])
    engine.forget(cache)
    with pytest.raises(docker.errors.ImageNotFound):
        client.images.get(ids[1])


def test_forgetting_what_is_absent_or_in_use_is_fine(engine, build, busybox, client):
    built, reference = build(f"FROM {busybox}\nRUN echo {uuid.uuid4()} > /word\n")
    container = client.containers.create(reference, ["true"])
    try:
        engine.forget(reference)
        assert client.images.get(built.image_id)
    finally:
        container.remove()
    engine.forget(reference)
    engine.forget(reference)


def _inspections(client):
    filters = {"label": "io.github.aml-images.inspection"}
    return {container.id for container in client.containers.list(ignore_removed=True, all=True, filters=filters)}


def test_paths_exist_without_running_the_image(engine, busybox, client, lines):
    engine.pull(str(busybox), lines.append)
    before = _inspections(client)
    found = engine.paths_exist(str(busybox), ("/bin/sh", "/bin", "/absent", "/bin/sh/below-a-file"))
    assert found == {"/bin/sh": True, "/bin": True, "/absent": False, "/bin/sh/below-a-file": False}
    until = time.monotonic() + 20
    while not _inspections(client) <= before:  # those of tests beside this one come and go
        assert time.monotonic() < until, "a container was left"
        time.sleep(0.2)
    with pytest.raises(BadInput, match="no such image"):
        engine.paths_exist("tests/absent:1", ("/",))


def test_the_sweep_removes_our_dead_containers_and_nobody_elses(busybox, client):
    mark = {_build_mark("tests/swept:1"): "127.0.0.1"}
    ours = client.containers.create(str(busybox), ["true"], extra_hosts=mark)
    inspection = client.containers.create(str(busybox), ["true"], labels={"io.github.aml-images.inspection": "paths"})
    alive = client.containers.run(str(busybox), ["sleep", "60"], extra_hosts=mark, detach=True)
    of_the_user = client.containers.create(str(busybox), ["true"])
    others = [alive, of_the_user]
    try:
        DockerEngine().sweep_build_containers()
        for young in (ours, inspection):
            young.reload()
        time.sleep(5)
        assert DockerEngine(leftover_seconds=4).sweep_build_containers() >= 2
        for gone in (ours, inspection):
            with pytest.raises(docker.errors.NotFound):
                gone.reload()
        for there in others:
            there.reload()
    finally:
        for container in others:
            container.remove(force=True)


@pytest.mark.parametrize(
    ("host", "reason"),
    [("tcp://127.0.0.1:9", "Connection refused"), ("unix:///absent/docker.sock", "No such file or directory")],
)
def test_no_engine_at_the_address(host, reason, tmp_path):
    engine = DockerEngine(host)
    with pytest.raises(Unreachable, match=f"{host}: the Docker engine does not answer: {reason}\n"):
        engine.info()
    request = BuildRequest(tmp_path / "none.tar", "Dockerfile", "x/y:1", "linux/amd64", 5)
    with pytest.raises(Unreachable):
        engine.build(request, print)


def test_a_host_that_is_no_url_is_the_users_mistake():
    with pytest.raises(BadInput, match="is not the URL of an engine"):
        DockerEngine("build-host:2376")


def test_the_disk_of_an_engine_elsewhere_is_not_guessed(engine, tmp_path: Path):
    assert DockerEngine(free_space_path=tmp_path / "absent").info().free_bytes is None
    assert (DockerEngine(free_space_path=tmp_path).info().free_bytes or 0) > 0


def test_forgetting_an_image_ends_containers_of_its_builds(busybox, client):
    ours, other = (
        client.containers.run(str(busybox), ["sleep", "60"], extra_hosts={_build_mark(tag): "127.0.0.1"}, detach=True)
        for tag in ("tests/forgotten:1", "tests/other:1")
    )
    try:
        DockerEngine().forget("tests/forgotten:1")
        with pytest.raises(docker.errors.NotFound):
            ours.reload()
        other.reload()
        assert other.status == "running"
    finally:
        other.remove(force=True)
