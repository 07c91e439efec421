"""A deployed factory, as those reach it who use it: by GraphQL and a browser, with a name and a password if it asks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import requests

from tests.browser.dagster_ui import LOADED, LOCATION, RUN, RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable

    import docker

    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

PATIENCE_SECONDS = 300
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) { __typename
    ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
TERMINATE = """mutation ($id: String!) { terminateRun(runId: $id, terminatePolicy: SAFE_TERMINATE)
    { __typename ... on PythonError { message } } }"""
TAGS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
RUNS = (
    "query ($job: String!) { runsOrError(filter: {pipelineName: $job}) { ... on Runs { results { runId status } } } }"
)
TICKS = """query ($name: String!) { sensorOrError(sensorSelector: {sensorName: $name, repositoryName: "__repository__",
    repositoryLocationName: "aml_images_dagster"}) { ... on Sensor { sensorState {
    ticks(limit: 5) { status timestamp skipReason error { message } } } } } }"""


def wait_for(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value of a condition."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.5)
    return found


@dataclass(frozen=True)
class Site:
    """The webserver, or the proxy before it.

    Attributes:
        url: Its address.
        user: Name and password; None asks for nothing.
    """

    url: str
    user: tuple[str, str] | None = None

    def graphql(self, query: str, **variables: object) -> Any:
        """The data that a query answers with."""
        body = {"query": query, "variables": variables}
        answer = requests.post(f"{self.url}/graphql", json=body, auth=self.user, timeout=60)
        assert answer.status_code == 200, f"{answer.status_code}: {answer.text[:2000]}"
        document = answer.json()
        assert "errors" not in document, document["errors"]
        return document["data"]

    def is_loaded(self) -> bool:
        """Whether it answers, and has loaded the code location."""
        try:
            entries = self.graphql(LOADED)["workspaceOrError"]["locationEntries"]
        except (requests.RequestException, AssertionError):
            return False
        return any((entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation" for entry in entries)

    def launch(self, job: str, config: object = None) -> str:
        """Launch a job; the id of its run."""
        selector = {"repositoryName": "__repository__", "repositoryLocationName": LOCATION, "jobName": job}
        params = {"selector": selector, "mode": "default", "runConfigData": config or {}}
        answer = self.graphql(LAUNCH, params=params)["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def terminate(self, run_id: str) -> None:
        """Tell a run to end."""
        answer = self.graphql(TERMINATE, id=run_id)["terminateRun"]
        assert answer["__typename"] == "TerminateRunSuccess", answer

    def tags(self, run_id: str) -> dict[str, str]:
        """The tags of a run, and its `status`."""
        run = self.graphql(TAGS, id=run_id)["runOrError"]
        return {"status": run["status"], **{tag["key"]: tag["value"] for tag in run["tags"]}}

    def runs(self, job: str) -> dict[str, str]:
        """Status by id of all runs of a job, the newest first."""
        return {run["runId"]: run["status"] for run in self.graphql(RUNS, job=job)["runsOrError"]["results"]}

    def ended(self, run_id: str) -> dict[str, Any]:
        """A run, once it has ended: its status, and `errors`, the messages of what failed. It may be away meanwhile."""

        def look() -> dict[str, Any] | None:
            try:
                run: dict[str, Any] = self.graphql(RUN, id=run_id)["runOrError"]
            except (requests.RequestException, AssertionError):
                return None
            return None if run["status"] in RUNNING else run

        run: dict[str, Any] = wait_for(look, f"run {run_id} ends")
        events = run.pop("eventConnection")["events"]
        run["errors"] = [event["error"]["message"] for event in events if event.get("error")]
        return run

    def build(self, **config: object) -> str:
        """Launch the job `build`, and wait until it has put the run of the build into the queue; that run's id."""
        known = set(self.runs("build_images"))
        asked = self.launch("build", {"ops": {"request_build": {"config": config}}})
        done = self.ended(asked)
        assert done["status"] == "SUCCESS", done["errors"]
        (run_id,) = set(self.runs("build_images")) - known
        return run_id

    def ticks(self, sensor: str) -> list[dict[str, Any]]:
        """The last ticks of a sensor."""
        state = self.graphql(TICKS, name=sensor)["sensorOrError"]["sensorState"]
        ticks: list[dict[str, Any]] = state["ticks"]
        return ticks


@dataclass
class Scene:
    """A deployed factory, and what it works with.

    Attributes:
        site: Where it is reached.
        repository: The image folders that it builds.
        staging: Its staging registry.
        engine: What builds and tests.
        changes: How often an image was changed.
    """

    site: Site
    repository: ImageRepository
    staging: OciRegistry
    engine: docker.DockerClient
    changes: int = 0

    def change(self, image: str, script: str) -> str:
        """Commit another Dockerfile of an image, and another script that all are tested with; the image's name."""
        self.changes += 1
        self.repository.write(self.repository.root / "checks" / "runs.py", script)
        with (self.repository.folder(image) / "Dockerfile").open("a") as dockerfile:
            dockerfile.write(f"RUN echo {self.changes} > /number\n")
        self.repository.commit(f"change {self.changes}")
        return self.repository.image(image)

    def start_sleeping_build(self, seconds: int) -> tuple[str, str]:
        """Run and number of a build whose test has begun to sleep."""
        image = self.change("apps/other", f"sleep {seconds}\n")
        run_id = self.site.build(images=[image])
        filters = {"label": f"aml-images.image={image}"}
        (container,) = wait_for(
            lambda: self.engine.containers.list(ignore_removed=True, filters=filters), "the test runs"
        )
        return run_id, container.labels["aml-images.build"]

    def left_of(self, build: str) -> list[str]:
        """Containers and networks of a build, and its tags in staging."""
        filters = {"label": f"aml-images.build={build}"}
        found = [
            *self.engine.containers.list(ignore_removed=True, all=True, filters=filters),
            *self.engine.networks.list(filters=filters),
        ]
        tags = [tag for family in self.repository.families.values() for tag in self.staging.tags(family)]
        return [str(each.name) for each in found] + [tag for tag in tags if tag.endswith(f"--{build}")]

    def nothing_is_left(self, build: str) -> None:
        """Wait until all of a build is removed."""
        wait_for(lambda: not self.left_of(build), "the build is cleaned up")
