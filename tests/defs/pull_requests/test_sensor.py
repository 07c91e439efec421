"""The sensor of pull requests, tick by tick, on a bare remote and with GitHub over HTTP; runs are not executed."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.artifacts import write_atomically
from aml_images_dagster.builds.naming import build_number
from aml_images_dagster.builds.records import InstalledComponents
from aml_images_dagster.catalog.git import Killed
from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.keys import BUILD_JOB, ENDING_JOB
from aml_images_dagster.defs.pinned_catalog import PinnedCatalog
from aml_images_dagster.defs.pull_requests import report, runs, sensor
from aml_images_dagster.defs.request import COMMIT_TAG, PULL_REQUEST_TAG
from aml_images_dagster.errors import BadInput, Unreachable
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.changes import find_changes
from aml_images_dagster.pull_requests.hosts.github import GitHubHost
from aml_images_dagster.pull_requests.remote import GitRemote
from aml_images_dagster.settings import load_settings
from tests.emulators.github import REPOSITORY, TOKEN, GitHub, OpenPullRequest
from tests.image_repository import ImageRepository
from tests.pull_requests.remote_repository import RemoteRepository, edit_docs, edit_hello, edit_shell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from aml_images_dagster.pull_requests.admission import Origin
    from aml_images_dagster.pull_requests.changes import Changes
    from aml_images_dagster.settings import Settings

KEY = ["images", "because"]


@dataclass
class Ticks:
    """A sensor whose ticks the test makes.

    Attributes:
        remote: Where pull requests are.
        github: What they are told to.
        instance: Where its runs are.
    """

    remote: RemoteRepository
    github: GitHub
    instance: dg.DagsterInstance
    given: dict[str, object]
    cursor: str | None = None
    said: str = ""
    reloads: int = 0
    _definitions: dg.Definitions | None = None
    runs: list[dg.DagsterRun] = field(default_factory=list)

    @property
    def settings(self) -> Settings:
        return load_settings(
            repo=self.remote.factory.root, pull_requests=self.given, production_registry="127.0.0.1:5001"
        )

    def load(self) -> None:
        """Load the code location, again."""
        settings = self.settings
        self._definitions = definitions(settings, PinnedCatalog.now(settings))

    def tick(self) -> list[dg.RunRequest]:
        """One tick; what it asks for becomes runs that wait, but, as with Dagster, none with a key that there was."""
        if self._definitions is None:
            self.load()
        assert self._definitions is not None
        sensor = next(s for s in self._definitions.sensors or () if s.name == "pull_requests")
        repository = self._definitions.get_repository_def()
        with dg.build_sensor_context(self.instance, cursor=self.cursor, repository_def=repository) as context:
            result = sensor(context)
        if isinstance(result, dg.SkipReason):
            self.said = result.skip_message or ""
            return []
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.said = result.skip_reason.skip_message or "" if result.skip_reason else ""
        known = {run.tags["dagster/run_key"] for run in self.runs}
        requests = [request for request in result.run_requests or () if request.run_key not in known]
        ending = [request for request in requests if request.job_name == ENDING_JOB]
        requests = [request for request in requests if request not in ending]
        for request in requests:
            job = self._definitions.resolve_job_def(BUILD_JOB)
            run = self.instance.create_run_for_job(
                job.get_subset(asset_selection=set(request.asset_selection or ())),
                run_config=request.run_config,
                tags={**request.tags, "dagster/run_key": request.run_key or ""},
                status=dg.DagsterRunStatus.NOT_STARTED,
                asset_selection=frozenset(request.asset_selection or ()),
            )
            self.runs.append(run)
        for request in ending:
            job = self._definitions.resolve_job_def(ENDING_JOB)
            job.execute_in_process(run_config=request.run_config, instance=self.instance, raise_on_error=False)
        return requests

    def status(self, index: int) -> dg.DagsterRunStatus:
        """How far a run is, by the order in which they were asked for."""
        run = self.instance.get_run_by_id(self.runs[index].run_id)
        assert run is not None
        return run.status

    def end(self, run: dg.DagsterRun, how: str) -> None:
        report = {"SUCCESS": "report_run_canceled", "CANCELED": "report_run_canceled", "FAILURE": "report_run_failed"}[
            how
        ]
        getattr(self.instance, report)(run)

    def open(self, number: int, change, **host: object) -> str:
        self.github.pull_requests.setdefault(number, OpenPullRequest(**host))
        return self.remote.push(number, change)

    def close(self, number: int) -> None:
        del self.github.pull_requests[number]  # its ref stays, as at GitHub

    def images(self, request: dg.RunRequest) -> list[str]:
        return sorted({f"{k.path[0]}/{k.path[1].rpartition('.')[0]}" for k in request.asset_selection or ()})


class _Coordinator:
    """Cancels at once."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def cancel_run(self, run_id: str) -> bool:
        run = self._instance.get_run_by_id(run_id)
        assert run is not None
        self._instance.report_run_canceled(run)
        return True


def look_through_here(settings: Settings, target: str, head: str, _: float) -> Changes:
    """Without a process of its own, which would ask the registries."""
    return find_changes(settings, backends_for(settings), target, head)


@pytest.fixture
def ticks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ticks]:
    for name in os.environ:
        if name.startswith(("AML_IMAGES_", "DAGSTER_")):
            monkeypatch.delenv(name)
    remote = RemoteRepository.create(tmp_path, ImageRepository.create(tmp_path / "repository"))
    with GitHub() as github, dg.DagsterInstance.ephemeral() as instance:
        monkeypatch.setattr(type(instance), "run_coordinator", property(_Coordinator))
        given = {"host": "github", "api_url": github.url, "repository": REPOSITORY, "token": TOKEN}
        made = Ticks(remote, github, instance, given)

        def reload(*_: object) -> None:
            made.reloads += 1
            made.load()

        monkeypatch.setattr(runs, "reload_code_location", reload)
        monkeypatch.setattr(sensor, "look_through", look_through_here)
        monkeypatch.setattr(
            "aml_images_dagster.pull_requests.changes.with_needed_parents", lambda selection, *_: dict(selection)
        )
        yield made


def test_an_edit_starts_one_build_of_the_image_and_its_descendants(ticks: Ticks) -> None:
    head = ticks.open(7, edit_shell)
    (request,) = ticks.tick()
    assert ticks.images(request) == ["apps/hello", "tools/shell"]
    assert {key.path[1].rpartition(".")[2] for key in request.asset_selection or ()} == {"staged", "tested"}
    assert (request.tags[PULL_REQUEST_TAG], request.tags[COMMIT_TAG]) == ("7", head)
    config = request.run_config["resources"]["build_options"]["config"]
    assert config["source_commit"] == head
    assert config["reasons"]["apps/hello"] == ["FROM tools/shell"]
    assert ticks.github.outcomes(head) == ["pending"]
    assert ticks.tick() == []
    assert "1 with a build" in ticks.said
    (comment,) = ticks.github.comments[7]
    assert "FROM tools/shell" in comment["body"]


def test_documentation_starts_nothing_and_says_so(ticks: Ticks) -> None:
    head = ticks.open(7, edit_docs)
    assert ticks.tick() == []
    assert "#7 nothing: no image is changed" in ticks.said
    (status,) = ticks.github.statuses[head]
    assert (status["state"], status["description"]) == ("success", "nothing to build: no image is changed")
    assert ticks.tick() == []
    assert len(ticks.github.statuses[head]) == 1
    assert ticks.runs == []


def test_a_push_cancels_what_is_superseded(ticks: Ticks) -> None:
    first = ticks.open(7, edit_hello)
    ticks.tick()
    second = ticks.open(7, lambda r: edit_hello(r, "RUN echo other\n"))
    (request,) = ticks.tick()
    assert request.tags[COMMIT_TAG] == second
    before, now = (ticks.instance.get_run_by_id(run.run_id) for run in ticks.runs)
    assert (before.status, now.status) == (dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.NOT_STARTED)
    assert ticks.github.outcomes(first) == ["pending", "error"]
    canceled = ticks.github.statuses[first][-1]
    assert canceled["description"] == f"superseded by {second[:8]}"
    assert canceled["target_url"] == f"http://127.0.0.1:3000/runs/{ticks.runs[0].run_id}"
    assert ticks.github.outcomes(second) == ["pending"]
    assert len(ticks.github.comments[7]) == 1


def test_a_push_back_to_a_commit_builds_it_again(ticks: Ticks) -> None:
    first = ticks.open(7, edit_hello)
    ticks.tick()
    ticks.open(7, lambda r: edit_hello(r, "RUN echo other\n"))
    ticks.tick()
    ticks.remote.push_commit(7, first)
    (request,) = ticks.tick()
    assert request.tags[COMMIT_TAG] == first
    assert ticks.tick() == []
    canceled, waiting = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.NOT_STARTED
    assert [ticks.status(index) for index in range(3)] == [canceled, canceled, waiting]
    assert ticks.github.outcomes(first) == ["pending", "error", "pending"]
    ticks.instance.report_run_failed(ticks.runs[2])
    ticks.tick()
    assert ticks.github.outcomes(first)[-1] == "failure"


def test_a_push_back_while_the_first_run_cannot_be_canceled(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    cancel = _Coordinator.cancel_run
    first = ticks.open(7, edit_hello)
    ticks.tick()
    monkeypatch.setattr(_Coordinator, "cancel_run", lambda *_: 1 / 0)
    ticks.open(7, lambda r: edit_hello(r, "RUN echo other\n"))
    ticks.tick()
    ticks.remote.push_commit(7, first)
    monkeypatch.setattr(_Coordinator, "cancel_run", cancel)
    assert len(ticks.tick()) == 1
    ticks.tick()
    canceled, waiting = dg.DagsterRunStatus.CANCELED, dg.DagsterRunStatus.NOT_STARTED
    assert [ticks.status(index) for index in range(3)] == [canceled, canceled, waiting]
    assert ticks.github.outcomes(first)[-1] == "pending"


@pytest.mark.parametrize("looks", [2, 4])
@pytest.mark.parametrize("is_built", [True, False])
def test_one_that_is_opened_again_is_built_again(ticks: Ticks, looks: int, is_built: bool) -> None:
    head = ticks.open(7, edit_hello)
    ticks.tick()
    if is_built:
        ticks.instance.report_run_failed(ticks.runs[0])
        ticks.tick()
    ticks.close(7)
    ticks.remote.push(8, edit_docs)  # its refs change
    for _ in range(looks):
        ticks.tick()
    ticks.github.pull_requests[7] = OpenPullRequest()
    ticks.remote.push(8, edit_docs)
    (request,) = ticks.tick()
    assert request.tags[COMMIT_TAG] == head
    assert ticks.tick() == []
    assert ticks.status(1) is dg.DagsterRunStatus.NOT_STARTED
    assert ticks.github.outcomes(head)[-1] == "pending"
    assert len(ticks.github.comments[7]) == 1


def test_one_that_is_opened_again_before_its_run_has_ended(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    monkeypatch.setattr(_Coordinator, "cancel_run", lambda *_: 1 / 0)
    ticks.close(7)
    ticks.remote.push(8, edit_docs)
    ticks.tick()
    ticks.tick()
    ticks.github.pull_requests[7] = OpenPullRequest()
    ticks.remote.push(8, edit_docs)
    assert len(ticks.tick()) == 1


def test_a_cursor_that_was_not_written_starts_nothing_twice(ticks: Ticks) -> None:
    ticks.open(8, edit_docs)
    ticks.tick()
    cursor = ticks.cursor
    ticks.open(7, edit_hello)
    assert len(ticks.tick()) == 1
    ticks.cursor = cursor
    assert ticks.tick() == []
    assert ticks.tick() == []
    assert ticks.status(0) is dg.DagsterRunStatus.NOT_STARTED


def test_a_listing_of_the_host_that_leaves_one_out_ends_nothing(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.open(8, edit_docs)
    ticks.tick()
    found = ticks.github.pull_requests.pop(7)
    ticks.remote.push(8, edit_docs)
    ticks.tick()
    ticks.github.pull_requests[7] = found
    for _ in range(3):
        assert ticks.tick() == []
    assert ticks.status(0) is dg.DagsterRunStatus.NOT_STARTED
    assert "1 with a build" in ticks.said


def test_a_closed_one_is_forgotten(ticks: Ticks) -> None:
    head = ticks.open(7, edit_hello)
    ticks.tick()
    ticks.close(7)
    ticks.remote.push(8, edit_docs)  # its refs change
    ticks.tick()
    assert ticks.instance.get_run_by_id(ticks.runs[0].run_id).status is dg.DagsterRunStatus.NOT_STARTED
    ticks.tick()
    assert ticks.instance.get_run_by_id(ticks.runs[0].run_id).status is dg.DagsterRunStatus.CANCELED
    ticks.tick()
    assert ticks.github.outcomes(head) == ["pending", "error"]
    canceled = ticks.github.statuses[head][-1]
    assert canceled["description"] == "the pull request was closed"
    assert canceled["target_url"].endswith(ticks.runs[0].run_id)
    assert ticks.remote.factory.git("for-each-ref", "refs/aml-images/pull") == ""
    assert '"7"' not in (ticks.cursor or "")


def test_refs_that_are_gone_for_a_moment_end_nothing(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    found = ticks.github.pull_requests.pop(7)
    ticks.remote.push(8, edit_docs)
    ticks.tick()
    ticks.github.pull_requests[7] = found
    ticks.remote.push(8, edit_docs)
    assert ticks.tick() == []
    assert ticks.instance.get_run_by_id(ticks.runs[0].run_id).status is dg.DagsterRunStatus.NOT_STARTED


def test_an_image_that_a_pull_request_adds(ticks: Ticks) -> None:
    def change(repository: ImageRepository) -> None:
        repository.write_image("apps/new", "FROM registry.example/shell\n")
        edit_shell(repository)

    head = ticks.open(7, change)
    assert ticks.tick() == []
    assert ticks.reloads == 1
    assert "Dagster has not loaded apps/new yet" in ticks.said
    (request,) = ticks.tick()
    assert ticks.images(request) == ["apps/hello", "apps/new", "tools/shell"]
    assert ticks.github.outcomes(head) == ["pending"]
    graph = ticks._definitions.resolve_asset_graph()
    key = dg.AssetKey(["apps", "new.staged"])
    assert graph.get(key).parent_keys == {dg.AssetKey(["tools", "shell.staged"])}
    ticks.close(7)
    ticks.remote.push(8, edit_docs)
    ticks.tick()
    ticks.tick()
    ticks.load()
    assert not ticks._definitions.resolve_asset_graph().has(key)


def test_a_from_line_that_a_pull_request_adds_orders_its_build(ticks: Ticks) -> None:
    def change(repository: ImageRepository) -> None:
        (repository.folder("apps/other") / "Dockerfile").write_text("FROM registry.example/hello\n")
        edit_hello(repository)

    ticks.open(7, change)
    assert ticks.tick() == []
    assert ticks.tick()
    graph = ticks._definitions.resolve_asset_graph()
    assert dg.AssetKey(["apps", "hello.staged"]) in graph.get(dg.AssetKey(["apps", "other.staged"])).parent_keys


def test_images_that_dagster_never_takes_up(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "reload_code_location", lambda *_: None)
    head = ticks.open(7, lambda r: r.write_image("apps/new", "FROM busybox:1\n"))
    now = time.time()
    for minutes in range(0, 40, 5):
        monkeypatch.setattr(sensor.time, "time", lambda minutes=minutes: now + minutes * 60)
        assert ticks.tick() == []
    assert ticks.github.outcomes(head) == ["pending", "failure"]
    assert "does not load its images" in ticks.github.comments[7][0]["body"]


def test_one_that_is_never_taken_up_takes_no_other_along(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()

    def later(minutes: int) -> list[dg.RunRequest]:
        monkeypatch.setattr(sensor.time, "time", lambda: now + minutes * 60)
        return ticks.tick()

    with monkeypatch.context() as never:
        never.setattr(runs, "reload_code_location", lambda *_: None)
        ticks.open(7, lambda r: r.write_image("apps/new", "FROM busybox:1\n"))
        for minutes in range(0, 25, 5):
            assert later(minutes) == []
    head = ticks.open(8, lambda r: r.write_image("apps/newer", "FROM busybox:1\n"))
    assert later(25) == []
    (request,) = later(26)
    assert request.tags[COMMIT_TAG] == head


def test_a_closed_one_that_had_ended_keeps_its_status(ticks: Ticks) -> None:
    head = ticks.open(7, edit_hello)
    ticks.tick()
    ticks.instance.report_run_failed(ticks.runs[0])
    ticks.tick()
    ticks.close(7)
    ticks.remote.push(8, edit_docs)
    for _ in range(3):
        ticks.tick()
    assert ticks.github.outcomes(head) == ["pending", "failure"]


def test_what_the_notices_do_not_name_is_told_in_the_comment(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    run = ticks.instance.get_run_record_by_id(ticks.runs[0].run_id)
    folder = backends_for(ticks.settings).artifacts.build(build_number(run.dagster_run.run_id, run.create_timestamp))
    drift = ("deb zlib was added (Zlib) [ThirdPartyNotices.lock.json:3, ThirdPartyNotices.txt:9]",)
    folder.write_components(InstalledComponents(image="apps/hello", digest="sha256:1", components=(), drift=drift))
    ticks.instance.report_run_failed(ticks.runs[0])
    ticks.tick()
    (comment,) = ticks.github.comments[7]
    assert f"- `apps/hello: {drift[0]}`" in comment["body"]


def test_a_damaged_record_of_a_closed_one_stops_no_other(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    run = ticks.instance.get_run_record_by_id(ticks.runs[0].run_id)
    folder = backends_for(ticks.settings).artifacts.build(build_number(run.dagster_run.run_id, run.create_timestamp))
    write_atomically(folder.root / "build.json", b"{")
    ticks.close(7)
    head = ticks.open(8, edit_shell)
    for _ in range(3):
        ticks.tick()
    assert [run.tags[COMMIT_TAG] for run in ticks.runs[1:]] == [head]


def test_a_closed_one_that_cannot_be_forgotten_stops_no_other(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    forget = GitRemote.forget

    def broken(remote: GitRemote, number: int) -> None:
        if number == 7:
            raise KeyError(number)
        forget(remote, number)

    monkeypatch.setattr(GitRemote, "forget", broken)
    for number in (7, 8):
        ticks.open(number, edit_docs)
    ticks.tick()
    for number in (7, 8):
        ticks.close(number)
    head = ticks.open(9, edit_shell)
    for _ in range(3):
        ticks.tick()
    assert '"7"' in (ticks.cursor or "")
    assert '"8"' not in (ticks.cursor or "")
    assert [run.tags[COMMIT_TAG] for run in ticks.runs] == [head]


def test_a_report_that_cannot_be_made_stops_no_other(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    first = ticks.open(7, edit_hello)
    other = ticks.open(8, edit_shell)
    write = GitHubHost.write_comment

    def broken(host: GitHubHost, number: int, *rest: str) -> str:
        if number == 7:
            raise KeyError(number)
        return write(host, number, *rest)

    monkeypatch.setattr(GitHubHost, "write_comment", broken)
    for _ in range(3):  # on a busy machine a tick is over before both are planned
        ticks.tick()
    assert {run.tags[COMMIT_TAG] for run in ticks.runs} == {first, other}
    assert ticks.github.outcomes(other) == ["pending"]


@pytest.mark.parametrize(
    ("allow", "host", "built"),
    [
        ("same-repository", {}, True),
        ("same-repository", {"from_fork": True}, False),
        ("author:alice", {"from_fork": True}, True),
        ("author:bob", {"from_fork": True}, False),
        ("label:build", {"from_fork": True}, False),
        ("everyone", {"from_fork": True}, True),
    ],
)
def test_who_may_trigger(ticks: Ticks, allow: str, host: dict[str, object], built: bool) -> None:
    ticks.given["allow"] = allow
    head = ticks.open(7, edit_hello, **host)
    assert bool(ticks.tick()) is built
    if not built:
        assert "#7 refused: it comes from outside" in ticks.said
        assert ticks.github.statuses[head][-1]["description"].startswith("not built: it comes from outside")
        assert ticks.remote.factory.git("for-each-ref", "refs/aml-images/pull") == ""  # not even fetched


def test_a_label_counts_for_the_head_that_was_looked_at(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks.given["allow"] = "label:build"
    now = time.time()

    def later(minutes: int) -> list[dg.RunRequest]:
        monkeypatch.setattr(sensor.time, "time", lambda: now + minutes * 60)
        return ticks.tick()

    first = ticks.open(7, edit_hello, from_fork=True)
    assert later(0) == []
    ticks.github.pull_requests[7].labels.append("build")
    (request,) = later(5)
    assert request.tags[COMMIT_TAG] == first
    second = ticks.open(7, lambda r: edit_hello(r, "RUN env | nc evil 1\n"))
    assert later(6) == []
    assert ticks.github.pull_requests[7].labels == []
    assert "was there before this commit" in ticks.github.statuses[second][-1]["description"]
    assert later(20) == []
    ticks.github.pull_requests[7].labels.append("build")
    (request,) = later(40)
    assert request.tags[COMMIT_TAG] == second


def test_without_a_token_nobody_is_trusted_and_nothing_is_told(ticks: Ticks) -> None:
    ticks.given = {"host": "github", "api_url": ticks.github.url, "repository": REPOSITORY}
    ticks.open(7, edit_hello)
    assert ticks.tick() == []
    assert "its author is unknown" in ticks.said
    ticks.given["allow"] = "everyone"
    ticks.cursor = None
    ticks.load()
    assert len(ticks.tick()) == 1
    assert ticks.github.received == []


def test_a_host_that_is_out_of_order_is_told_later(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    head = ticks.open(7, edit_hello)
    ticks.given["allow"] = "everyone"
    assert len(ticks.tick()) == 1
    ticks.github.fault = 503
    now = time.time()
    ticks.instance.report_run_failed(ticks.runs[0])
    assert ticks.tick() == []
    assert "#7 could not be reported; it will be tried again" in ticks.said
    ticks.github.fault = 0
    monkeypatch.setattr(sensor.time, "time", lambda: now + 40)
    ticks.tick()
    assert ticks.github.outcomes(head) == ["pending", "failure"]


def test_a_host_that_cannot_be_asked_starts_nothing(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.github.fault = 500
    assert ticks.tick() == []
    assert "GitHub answers 500" in ticks.said


def test_a_remote_that_cannot_be_reached_ends_nothing(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    cursor = ticks.cursor
    ticks.remote.bare.rename(ticks.remote.bare.with_name("away"))
    with pytest.raises(BadInput, match="no such remote"):
        ticks.tick()
    assert ticks.cursor == cursor
    assert ticks.instance.get_run_by_id(ticks.runs[0].run_id).status is dg.DagsterRunStatus.NOT_STARTED


def test_a_lost_cursor_starts_nothing_twice(ticks: Ticks) -> None:
    ticks.open(7, edit_hello)
    ticks.tick()
    ticks.cursor = None
    assert ticks.tick() == []
    assert len(ticks.github.comments[7]) == 1


def test_what_cannot_be_built_is_told_and_not_started(ticks: Ticks) -> None:
    head = ticks.open(7, lambda r: r.write(r.folder("apps/other") / "tests.json", "{"))
    assert ticks.tick() == []
    assert ticks.github.outcomes(head) == ["failure"]
    assert ticks.github.statuses[head][0]["description"].startswith("cannot be built: images/apps/other/tests.json:1: ")
    assert "tests.json:1" in ticks.github.comments[7][0]["body"]


def test_a_defect_of_ours_stops_no_other(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks.open(7, edit_hello)
    other = ticks.open(8, edit_shell)
    assess = sensor.Assessor.assess

    def broken(self, number, *rest):
        if number == 7:
            raise RecursionError
        return assess(self, number, *rest)

    monkeypatch.setattr(sensor.Assessor, "assess", broken)
    assert [request.tags[COMMIT_TAG] for request in ticks.tick()] == [other]


@pytest.mark.parametrize("fault", [OSError(28, "No space left on device", "/var/lib/x"), Unreachable("it is away")])
def test_a_fault_of_this_machine_or_of_a_service_is_no_fault_of_a_pull_request(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    head = ticks.open(7, edit_hello)
    with monkeypatch.context() as patched:

        def fails(*_: object) -> None:
            raise fault

        patched.setattr(sensor.Assessor, "assess", fails)
        assert ticks.tick() == []
    assert "it is evaluated again" in ticks.said
    assert "/var/lib" not in ticks.said
    monkeypatch.setattr(sensor.time, "time", lambda now=sensor.time.time: now() + 600)
    assert [request.tags[COMMIT_TAG] for request in ticks.tick()] == [head]


def test_an_evaluation_that_is_killed_again_and_again_takes_too_much(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = ticks.open(7, edit_hello)
    now = time.time()

    def killed(*_: object) -> Changes:
        raise Killed("its evaluation was killed")

    monkeypatch.setattr(sensor, "look_through", killed)
    for minutes in (0, 10, 20):
        assert ticks.github.outcomes(head)[-1:] in ([], ["pending"])
        monkeypatch.setattr(sensor.time, "time", lambda now=now + minutes * 60: now)
        assert ticks.tick() == []
    assert "#7 invalid: its evaluation was killed, 3 times: it may take too much memory" in ticks.said
    assert ticks.github.outcomes(head)[-1] in ("error", "failure")


def test_strangers_hold_up_nobody(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    asked: list[int] = []
    monkeypatch.setattr(sensor, "_EVALUATION_SECONDS", 0.05)  # so slow is the host that a look evaluates one only
    monkeypatch.setattr(report, "_SECONDS", 0.05)
    origin = GitHubHost.origin

    def slow_origin(host: GitHubHost, number: int) -> Origin:
        asked.append(number)
        time.sleep(0.1)
        return origin(host, number)

    monkeypatch.setattr(GitHubHost, "origin", slow_origin)

    def later(minutes: float) -> list[dg.RunRequest]:
        monkeypatch.setattr(sensor.time, "time", lambda: now + minutes * 60)
        return ticks.tick()

    for number in (1, 2, 3):
        ticks.open(number, edit_docs, from_fork=True)
    for look in range(4):
        assert later(look / 2) == []
    assert {1, 2, 3} == set(asked)
    head = ticks.open(9, edit_hello)
    (request,) = later(30)  # all of them are due again
    assert request.tags[COMMIT_TAG] == head
    assert ticks.github.outcomes(head) == ["pending"]
    asked.clear()
    for look in range(1, 4):
        later(30 + look / 2)
    assert sorted(asked) == [1, 2, 3]


def test_default_status(ticks: Ticks) -> None:
    for profile, status in (("off", dg.DefaultSensorStatus.STOPPED), ("on", dg.DefaultSensorStatus.RUNNING)):
        settings = load_settings(repo=ticks.remote.factory.root, automation=profile)
        sensor = next(s for s in definitions(settings).sensors or () if s.name == "pull_requests")
        assert sensor.default_status is status
