"""Tests of a staged image: every scenario of its tests.json runs as a training job unless it has passed already."""

from __future__ import annotations

import hashlib
import json
import tempfile
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.builds.naming import job_name, temporary_prefix
from aml_images_dagster.builds.records import (
    EvidenceRecord,
    JobRecord,
    PassedImage,
    ScenarioRecord,
    StagedImage,
    TestedImage,
    on_platform,
)
from aml_images_dagster.builds.steps.evidence import Evidence
from aml_images_dagster.builds.steps.reuse import passed_with
from aml_images_dagster.builds.steps.staging import staged_by_digest
from aml_images_dagster.catalog.tests_file import lay_out, scenario_files
from aml_images_dagster.errors import BuildFailed, FactoryError
from aml_images_dagster.testing.interface import JobResult, TestJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tests_file import Scenario

_LOG_TAIL_LINES = 40


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """A scenario on one platform of an image.

    Attributes:
        scenario: The scenario.
        platform: The platform, if the image has several; else empty.
    """

    scenario: Scenario
    platform: str

    @property
    def name(self) -> str:
        """Name of the scenario, with the platform if there is one to name."""
        return on_platform(self.scenario.name, self.platform)


def scenario_runs(image: Image) -> tuple[ScenarioRun, ...]:
    """Every scenario of an image, on each of its platforms."""
    platforms = image.platforms if len(image.platforms) > 1 else ("",)
    return tuple(ScenarioRun(scenario, platform) for platform in platforms for scenario in image.scenarios)


def test(session: BuildSession, staged: StagedImage, log: Callable[[str], None]) -> TestedImage:
    """Run the scenarios of a staged image, and write `tested.json`.

    Args:
        session: The build.
        staged: The image.
        log: Receives what the nodes print.

    Raises:
        BuildFailed: A scenario did not pass.
        Unreachable: The place that runs the jobs does not answer.
    """
    session.begin()
    image = session.image(staged.image)
    before = passed_with(session, staged.content_key.digest, staged.image, staged.digest)
    passed = {} if session.force else passed_scenarios(before)
    evidence = Evidence(session, staged, attached_before(before))
    records: dict[str, ScenarioRecord] = {}
    to_run: dict[str, ScenarioRun] = {}
    untested: dict[str, None] = {}
    for run in scenario_runs(image):
        key = scenario_key(session, staged.digest, image, run)
        record = passed.get(key)
        if record:
            log(f"{run.name}: passed in build {record.tested_in} as {record.job}")
            records[run.name] = record
        elif is_testable(session, run.platform):
            to_run[key] = run
        else:
            log(f"{run.name}: not tested, because no test machine is {run.platform}")
            untested[run.platform] = None
    records |= _run(session, staged, image, to_run, log)
    in_order = tuple(records[run.name] for run in scenario_runs(image) if run.name in records)
    tested = TestedImage(image=image.id, digest=staged.digest, scenarios=in_order, untested=tuple(untested))
    attached = evidence.attach(tested, log)
    session.folder.write_tested(tested)
    remember(session, PassedImage(staged=staged, tested=tested, evidence=attached))
    return tested


def attached_before(passed: Iterable[PassedImage]) -> EvidenceRecord | None:
    """What earlier builds have attached to an image; of records that are given best first, the best counts."""
    return next(
        (each.evidence for each in passed if each.evidence and each.evidence.digest == each.staged.digest), None
    )


def is_testable(session: BuildSession, platform: str) -> bool:
    """Whether scenarios run on a platform of an image that has several; that of one that has no other always do."""
    return not platform or session.backends.runner.runs(platform)


def remember(session: BuildSession, passed: PassedImage) -> None:
    """Let later builds use an image that has passed."""
    session.backends.artifacts.write_passed(passed, by_pull_request=bool(session.pull_request))


def scenario_key(session: BuildSession, digest: str, image: Image, run: ScenarioRun) -> str:
    """sha256 of all inputs of a scenario's result: the image, the scenario, its code, and the place."""
    tree = session.source.tree
    files = scenario_files(tree, run.scenario, session.settings.tests_path)
    decisive = {
        "digest": digest,
        "platform": run.platform or image.platform,
        "scenario": run.scenario.model_dump(mode="json"),
        "code": {path: hashlib.sha256(content).hexdigest() for path, content in tree.read_many(files)},
        "place": session.backends.runner.kind,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def passed_scenarios(passed: Sequence[PassedImage]) -> Mapping[str, ScenarioRecord]:
    """Scenarios that an image has passed, by their keys; of records that are given best first, the best counts."""
    return {record.key: record for before in reversed(passed) for record in before.tested.scenarios}


def _run(
    session: BuildSession,
    staged: StagedImage,
    image: Image,
    runs: Mapping[str, ScenarioRun],
    log: Callable[[str], None],
) -> dict[str, ScenarioRecord]:
    """Run scenarios, given by their keys; their records by name. The first that does not pass ends the others."""
    passed: dict[str, ScenarioRecord] = {}
    with (
        tempfile.TemporaryDirectory(prefix=temporary_prefix(session.number)) as temporary,
        _written_down(session, staged, image, runs.values()) as written,
    ):
        jobs = [
            _job(session, image, record, run, Path(temporary, str(number)))
            for number, (record, run) in enumerate(zip(written.values(), runs.values(), strict=True))
        ]
        keys = {job.name: key for job, key in zip(jobs, runs, strict=True)}
        with closing(session.backends.runner.run_all(jobs, log)) as results:
            for result in results:
                ended = {"status": result.status, "finished": datetime.now(UTC), "url": result.url}
                session.folder.write_job(written.pop(result.job).model_copy(update=ended))
                key = keys[result.job]
                passed[runs[key].name] = _passed(session, image, runs[key], key, result)
    return passed


@contextmanager
def _written_down(
    session: BuildSession, staged: StagedImage, image: Image, runs: Iterable[ScenarioRun]
) -> Iterator[dict[str, JobRecord]]:
    """The records of jobs, by name, written before any is submitted. Those that remain at the end have ended."""
    written: dict[str, JobRecord] = {}
    try:
        for run in runs:
            record = JobRecord(
                job=job_name(session.number, image.id, run.name, attempt=1),
                build=session.number,
                image=image.id,
                scenario=run.scenario.name,
                attempt=1,
                place=session.backends.runner.kind,
                reference=str(staged_by_digest(session, staged).with_digest(staged.on(run.platform))),
                status="submitting",
                submitted=datetime.now(UTC),
                platform=run.platform,
            )
            session.folder.write_job(record)
            written[record.job] = record
        yield written
    except BaseException as error:
        # A scenario that did not pass has canceled those that are left.
        fault = isinstance(error, FactoryError) and not isinstance(error, BuildFailed)
        over = {"status": "failed" if fault else "canceled", "finished": datetime.now(UTC)}
        for record in written.values():
            session.folder.write_job(record.model_copy(update=over))
        raise


def _job(session: BuildSession, image: Image, record: JobRecord, run: ScenarioRun, code: Path) -> TestJob:
    """A job with its files in a folder of its own."""
    lay_out(session.source.tree, run.scenario, session.settings.tests_path, code)
    _keep_code(session, run.scenario)
    plan = image.tests
    return TestJob(
        name=record.job,
        build=session.number,
        image=image.id,
        reference=record.reference,
        os=image.os,
        scenario=run.scenario,
        code=code,
        timeout_seconds=plan.timeout_minutes * 60 if plan else 0,
        compute=plan.compute if plan else "",
        commit=session.source.commit,
        platform=run.platform,
        keep_failed=session.keep_until is not None,
    )


def _passed(session: BuildSession, image: Image, run: ScenarioRun, key: str, result: JobResult) -> ScenarioRecord:
    """Keep the logs of a job, and make the record of the scenario.

    Raises:
        BuildFailed: It did not pass.
    """
    for node in result.logs:
        name = ".".join(filter(None, (run.scenario.name, run.platform.replace("/", "-"), node.node)))
        session.folder.write_log(image.id, f"{name}.log", node.text)
    if result.status == "canceled":
        session.begin()  # by the cleanup of the build, most likely
    if result.status != "passed":
        command = f"aml-images logs {session.number} {image.id} {run.scenario.name}"
        logs = f"`{command}` shows what it has printed" if result.logs else ""
        seen = f"See {result.url}" if result.url else ""
        raise BuildFailed(
            f"scenario {on_platform(repr(run.scenario.name), run.platform)} {result.status}: {result.reason}",
            where=image.id,
            hint="".join(f"{sentence}. " for sentence in (logs, seen) if sentence).rstrip(),
            log=_tail(result),
        )
    return ScenarioRecord(
        scenario=run.scenario.name,
        key=key,
        job=result.job,
        status=result.status,
        seconds=round(result.seconds, 3),
        reason=result.reason,
        url=result.url,
        sdk=result.sdk,
        warning=result.warning,
        tested_in=session.number,
        platform=run.platform,
    )


def _tail(result: JobResult) -> str:
    lines = [f"{node.node} | {line}" for node in result.logs for line in node.text.splitlines()[-_LOG_TAIL_LINES:]]
    return "\n".join(lines[-2 * _LOG_TAIL_LINES :])


def _keep_code(session: BuildSession, scenario: Scenario) -> None:
    """Keep the test code beside the image folders in the build's sources."""
    tree = session.source.tree
    session.folder.keep_sources(tree.read_many(scenario_files(tree, scenario, session.settings.tests_path)))
