"""ACR Tasks by the real SDKs over HTTPS, against an emulator whose Linux agents really build."""

from __future__ import annotations

import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.catalog.builder_features import REWRITE_TIMESTAMP, SEVERAL_PLATFORMS
from aml_images_dagster.catalog.dockerfile import with_labels
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.engine.acr_tasks.runs import RunLog
from aml_images_dagster.engine.interface import BuildRequest, RegistryLogin
from aml_images_dagster.errors import BadInput, BuildFailed, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.settings import load_settings
from tests.emulators.azure.acr_tasks import CONTAINER, AcrTasks
from tests.emulators.azure.blob_storage import BlobStorage
from tests.emulators.token_registry import TokenRegistry
from tests.memory import memory_growth
from tests.trust.files import files_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.engine.interface import PushedImage
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.conftest import MakeContext
    from tests.emulators.azure.cloud import EmulatedCloud

    Build = Callable[..., PushedImage]

pytestmark = pytest.mark.engine

FOREVER = "RUN while true; do echo waiting; sleep 0.1; done"


@pytest.fixture
def tasks(cloud: EmulatedCloud) -> Iterator[AcrTasks]:
    tasks = AcrTasks(cloud, cloud.start(BlobStorage(cloud)))
    yield tasks
    tasks.wait()


@pytest.fixture
def backends(tasks: AcrTasks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Backends:
    for name, value in {
        "LINUX_BUILDER": "acr-tasks",
        "WINDOWS_BUILDER": "acr-tasks",
        "TASK_POLL_SECONDS": "0.1",
    }.items():
        monkeypatch.setenv(f"AML_IMAGES_AZURE__{name}", value)
    (tmp_path / "images").mkdir()
    return backends_for(load_settings(repo=tmp_path / "images"))


@pytest.fixture
def with_buildx(monkeypatch: pytest.MonkeyPatch, cloud: EmulatedCloud) -> None:
    monkeypatch.setenv("AML_IMAGES_AZURE__TASK_BUILDX", f"{cloud.staging.host}/buildx")


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def started() -> list[str]:
    return []


@pytest.fixture
def build(
    backends: Backends, cloud: EmulatedCloud, make_context: MakeContext, lines: list[str], started: list[str]
) -> Build:
    def run(
        text: str,
        *,
        still_wanted: Callable[[], None] = lambda: None,
        started: Callable[[str], None] = started.append,
        **changes: Any,
    ) -> PushedImage:
        context = make_context({"Dockerfile": text, **changes.pop("files", {})})
        options = {"platform": "linux/amd64", "timeout_seconds": 60, **changes}
        tag = f"{cloud.staging.host}/apps/hello:1"
        builder = backends.builder_for(str(options["platform"]).split("/")[0])
        request = BuildRequest(context, "Dockerfile", tag, **options)
        return builder.build_and_push(request, lines.append, still_wanted=still_wanted, started=started)

    return run


@pytest.fixture
def tag(cloud: EmulatedCloud) -> Reference:
    return Reference(cloud.staging.host, "apps/hello", "1")


def test_an_image_is_built_and_pushed_there(
    build: Build,
    busybox: Reference,
    backends: Backends,
    tag: Reference,
    lines: list[str],
    started: list[str],
    tasks: AcrTasks,
) -> None:
    title = {"org.opencontainers.image.title": 'it\'s $5 "only"'}
    pushed = build(
        with_labels(f'FROM {busybox}\nARG WORD\nCOPY note /note\nRUN echo "said $WORD" && cat note\n', title),
        files={"note": "a note"},
        build_args={"WORD": "hello"},
    )
    assert pushed.digest == backends.staging.digest(tag)
    assert backends.staging.config(tag)["config"]["Labels"] == title
    assert pushed.files is None
    assert files_in(backends.staging, tag, ["/note", "/nowhere"]) == {"/note": True, "/nowhere": False}
    assert "said hello" in lines
    assert started == ["ca1"]
    assert tasks.runs["ca1"].request["timeout"] == 300, "the shortest that the service takes"


@pytest.mark.usefixtures("with_buildx")
def test_a_task_with_buildx_builds_with_buildkit(
    build: Build, busybox: Reference, backends: Backends, tag: Reference, lines: list[str], tasks: AcrTasks
) -> None:
    word = '${A} %{if true} "$5" {{.Run.ID}}'
    text = f"""FROM {busybox} AS unneeded
RUN exit 3
FROM {busybox}
ARG WORD TARGETARCH
COPY --chmod=640 . /x
RUN --mount=type=cache,target=/cache echo "said $WORD on $TARGETARCH"
LABEL word="$WORD"
"""
    assert build(text, build_args={"WORD": word}, files={"note": "a note"}).digest is None
    assert backends.staging.config(tag)["config"]["Labels"] == {"word": word}
    assert any(f"said {word} on amd64" in line for line in lines)
    assert files_in(backends.staging, tag, ["/x/note", "/x/docker-bake.json"]) == {
        "/x/note": True,
        "/x/docker-bake.json": False,
    }
    features = backends.builder.features()
    assert "RUN --mount" in features.supported
    assert not {SEVERAL_PLATFORMS, REWRITE_TIMESTAMP} & features.supported
    assert backends.builder_for("windows").features().supported == frozenset()
    assert word not in tasks.runs["ca1"].request["encodedTaskContent"]


@pytest.mark.usefixtures("with_buildx")
def test_a_task_with_buildx_that_fails_or_is_not_wanted(
    build: Build, busybox: Reference, backends: Backends, tag: Reference, tasks: AcrTasks, lines: list[str]
) -> None:
    with pytest.raises(BuildFailed, match="run ca1 failed") as failed:
        build(f"FROM {busybox}\nRUN echo before; exit 3\n", no_cache=True)
    assert "before" in failed.value.log

    def still_wanted() -> None:
        if any("waiting" in line for line in lines):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(f"FROM {busybox}\n{FOREVER}\n", still_wanted=still_wanted)
    assert tasks.runs["ca2"].status == "Canceled"
    tasks.wait()
    assert backends.staging.digest(tag) is None


@pytest.mark.usefixtures("with_buildx")
def test_a_base_of_a_task_with_buildx_may_need_a_login(
    build: Build, busybox: Reference, staging: OciRegistry, backends: Backends, tag: Reference
) -> None:
    with TokenRegistry(staging.host, {"someone": "correct-horse-battery"}) as guarded:
        base = f"{guarded.host}/{busybox.repository}@{busybox.digest}"
        build(f"FROM {base}\nLABEL a=1\n", logins={guarded.host: RegistryLogin("someone", "correct-horse-battery")})
    assert backends.staging.digest(tag) is not None


@pytest.mark.parametrize("wanted", [{"secrets": {"word": "x"}}, {"ssh": True}])
def test_agents_get_no_secrets(build: Build, tasks: AcrTasks, wanted: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="no secrets and no ssh"):
        build("FROM scratch\n", **wanted)
    assert not tasks.runs


def test_a_run_that_does_not_name_its_images(
    build: Build, busybox: Reference, backends: Backends, tag: Reference, tasks: AcrTasks
) -> None:
    tasks.lists_images = False
    assert build(f"FROM {busybox}\nLABEL a=b\n").digest is None
    assert backends.staging.digest(tag) is not None


def test_what_an_image_is_from_may_need_a_login(
    build: Build,
    busybox: Reference,
    staging: OciRegistry,
    tasks: AcrTasks,
    caplog: pytest.LogCaptureFixture,
    lines: list[str],
) -> None:
    caplog.set_level("DEBUG")
    with TokenRegistry(staging.host, {"someone": "correct-horse-battery"}) as guarded:
        base = f"{guarded.host}/{busybox.repository}@{busybox.digest}"
        with pytest.raises(BuildFailed):
            build(f"FROM {base}\nLABEL a=1\n")
        build(f"FROM {base}\nLABEL a=1\n", logins={guarded.host: RegistryLogin("someone", "correct-horse-battery")})
    assert "correct-horse-battery" not in caplog.text + "".join(lines)
    assert tasks.runs["ca2"].document("")["properties"]["customRegistries"] == [guarded.host]


def test_a_failing_instruction(build: Build, busybox: Reference, backends: Backends, tag: Reference) -> None:
    with pytest.raises(BuildFailed, match=r"run ca1 failed.*non-zero code: 3") as failed:
        build(f"FROM {busybox}\nRUN echo before; exit 3\n")
    assert "before" in failed.value.log
    assert backends.staging.digest(tag) is None


def test_the_run_is_canceled_when_the_image_is_not_wanted_any_more(
    build: Build, busybox: Reference, backends: Backends, tag: Reference, tasks: AcrTasks, lines: list[str]
) -> None:
    def still_wanted() -> None:
        if "waiting" in lines:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(f"FROM {busybox}\n{FOREVER}\n", still_wanted=still_wanted)
    assert tasks.runs["ca1"].status == "Canceled"
    tasks.wait()
    assert backends.staging.digest(tag) is None


def test_nothing_is_scheduled_for_an_image_that_is_not_wanted(
    build: Build, busybox: Reference, tasks: AcrTasks
) -> None:
    def not_wanted() -> None:
        raise BuildFailed("cleaned up")

    with pytest.raises(BuildFailed, match="cleaned up"):
        build(f"FROM {busybox}\n", still_wanted=not_wanted)
    assert not tasks.runs


def test_a_run_whose_sender_is_interrupted_while_it_is_scheduled_is_ended(
    build: Build, busybox: Reference, tasks: AcrTasks
) -> None:
    """As a person or the end of the build interrupts a step; the service has the request, and nobody its answer."""
    tasks.agents.clear()
    tasks.answers.clear()
    main = threading.main_thread().ident
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)

    def interrupt() -> None:
        _until(lambda: tasks.runs)
        signal.pthread_kill(main or 0, signal.SIGUSR1)
        time.sleep(0.2)
        tasks.answers.set()

    other = threading.Thread(target=interrupt)
    other.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            build(f"FROM {busybox}\n")
    finally:
        other.join()
        signal.signal(signal.SIGUSR1, before)
        tasks.agents.set()
    assert tasks.runs["ca1"].status == "Canceled"


def test_a_run_whose_id_cannot_be_written_down_is_ended(build: Build, busybox: Reference, tasks: AcrTasks) -> None:
    def full(_: str) -> None:
        raise OSError("no space left on device")

    tasks.agents.clear()
    with pytest.raises(OSError, match="no space left"):
        build(f"FROM {busybox}\n", started=full)
    assert tasks.runs["ca1"].status == "Canceled"
    tasks.agents.set()


def test_the_run_is_canceled_at_its_deadline(build: Build, busybox: Reference, tasks: AcrTasks) -> None:
    with pytest.raises(BuildFailed, match="stopped at its deadline of 3 s") as failed:
        build(f"FROM {busybox}\n{FOREVER}\n", timeout_seconds=3)
    assert tasks.runs["ca1"].status == "Canceled"
    assert "waiting" in failed.value.log


def test_a_run_of_a_killed_process_can_be_ended_by_anybody(
    build: Build, busybox: Reference, backends: Backends, tag: Reference, tasks: AcrTasks, started: list[str]
) -> None:
    tasks.agents.clear()
    failures: list[Exception] = []

    def builds() -> None:
        try:
            build(f"FROM {busybox}\n")
        except BuildFailed as failure:
            failures.append(failure)

    thread = threading.Thread(target=builds)
    thread.start()
    _until(lambda: started)
    backends.builder.abandon(str(tag), started[0])
    assert tasks.runs[started[0]].status == "Canceled"
    backends.builder.abandon(str(tag), started[0])
    backends.builder.abandon(str(tag), None)
    tasks.agents.set()
    thread.join(30)
    assert "was canceled in the registry" in str(failures[0])


def test_a_run_that_does_not_end_is_said(
    tasks: AcrTasks, build: Build, busybox: Reference, backends: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks.canceling = False
    tasks.agents.clear()
    monkeypatch.setattr(backends.builder, "_cancel_seconds", 0.5)
    with pytest.raises(Unreachable, match=r"was canceled 0\.5 s ago and is still Queued"):
        try:
            build(f"FROM {busybox}\n", timeout_seconds=0.5)
        finally:
            tasks.agents.set()


def test_windows_agents(build: Build, backends: Backends, tag: Reference, tasks: AcrTasks) -> None:
    """By protocol only: the agents of the emulator have no Windows."""
    tasks.windows_log = ["hcsshim: timeout waiting for notification"]
    files = {"LICENSE.txt": "MIT"}
    pushed = build("FROM mcr.microsoft.com/windows/nanoserver:ltsc2022\n", platform="windows/amd64", files=files)
    assert pushed.digest == backends.staging.digest(tag)
    assert backends.staging.config(tag)["os"] == "windows"
    assert files_in(backends.staging, tag, ["C:\\LICENSE.txt"]) == {"C:\\LICENSE.txt": True}
    assert [run.status for run in tasks.runs.values()] == ["Failed", "Succeeded"]
    assert tasks.runs["ca2"].request["platform"] == {"os": "Windows", "architecture": "amd64"}


def test_a_windows_base_that_does_not_fit_the_agents(build: Build, tasks: AcrTasks) -> None:
    tasks.windows_log = ["no matching manifest for windows/amd64 10.0.20348 in the manifest list entries"]
    with pytest.raises(BuildFailed, match="another Windows"):
        build("FROM mcr.microsoft.com/windows/nanoserver:ltsc2019\n", platform="windows/amd64")


def test_what_it_builds_on(backends: Backends) -> None:
    linux, windows = backends.builder.info(), backends.builder_for("windows").info()
    assert (linux.version, linux.os, linux.os_version) == ("ACR Tasks", "linux", None)
    assert windows.os == "windows"


def test_a_role_is_missing(cloud: EmulatedCloud, backends: Backends) -> None:
    cloud.arm.fail(403, path="listBuildSourceUploadUrl")
    with pytest.raises(Unreachable, match="Container Registry Tasks Contributor"):
        backends.builder.info()


def test_there_is_no_such_registry(tasks: AcrTasks, cloud: EmulatedCloud, backends: Backends) -> None:
    cloud.registries.registries.clear()
    with pytest.raises(BadInput, match="it does not exist"):
        backends.builder.info()


def test_throttling_is_waited_for(
    cloud: EmulatedCloud, build: Build, busybox: Reference, backends: Backends, tag: Reference
) -> None:
    cloud.arm.fail(429, retry_after=1, path="scheduleRun|/runs/", times=3)
    build(f"FROM {busybox}\nLABEL a=c\n")
    assert backends.staging.digest(tag) is not None


def test_a_link_to_the_log_that_has_expired_is_asked_for_again(
    cloud: EmulatedCloud, build: Build, busybox: Reference, tasks: AcrTasks, lines: list[str]
) -> None:
    tasks._storage.fail(403, method="GET", path="logs/", times=2)
    build(f"FROM {busybox}\nRUN echo heard\n", no_cache=True)
    assert "heard" in lines
    assert len(cloud.arm.requests("POST", "listLogSasUrl")) > 1


def test_of_a_log_that_grows_faster_than_it_is_read_the_end_is_read(
    cloud: EmulatedCloud, tasks: AcrTasks, lines: list[str]
) -> None:
    content = b"first\n" + b"x" * 50_000_000 + b"\n" + "last €\n".encode()
    tasks._storage.put(CONTAINER, "logs/ca1", content)
    log = RunLog(lambda: tasks._storage.signed(CONTAINER, "logs/ca1"), lines.append)
    with memory_growth() as memory:
        tail = log.finish()
    assert lines[0] == "first"
    assert lines[-1] == "last €"
    assert any(re.fullmatch(r"\[[\d,]+ bytes of the log are left out here\]", line) for line in lines)
    assert max(map(len, lines)) <= 64 * 1024
    assert tail.endswith("last €")
    assert len(tail) < 200_000
    assert memory.peak < 150e6  # the emulator and the test hold some of it, too


def _until(happens: Callable[[], object]) -> None:
    end = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_makes_no_image_for_several_platforms_and_says_why(backends: Backends) -> None:
    features = backends.builder_for("linux").features()
    assert not {SEVERAL_PLATFORMS, REWRITE_TIMESTAMP} & features.supported
    assert (features.builder, features.one_platform) == ("ACR Tasks", "a task builds on one agent, without BuildKit")
