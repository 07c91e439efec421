"""Testing a staged image: every scenario of its tests.json runs as a training job, or has passed already."""

from __future__ import annotations

import hashlib
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.build.artifacts import write_atomically
from aml_images_dagster.build.naming import temporary_prefix
from aml_images_dagster.build.records import JobRecord, PassedImage, ScenarioRecord, StagedImage, TestedImage
from aml_images_dagster.build.staging import staged_by_digest
from aml_images_dagster.catalog.scenario_files import lay_out, scenario_files
from aml_images_dagster.errors import BuildFailed, FactoryError
from aml_images_dagster.testing.interface import JobResult, TestJob
from aml_images_dagster.testing.job_name import job_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from aml_images_dagster.build.session import BuildSession
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tests_file import Scenario

_LOG_TAIL_LINES = 40


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
    passed = {} if session.force else _passed_before(session, staged)
    records: list[ScenarioRecord] = []
    for scenario in image.scenarios:
        key = scenario_key(session, staged.digest, image, scenario)
        before = passed.get(key)
        if before:
            log(f"{scenario.name}: passed in build {before.tested_in} as {before.job}")
            records.append(before)
        else:
            records.append(_run(session, staged, image, scenario, key, log))
    tested = TestedImage(image=image.id, digest=staged.digest, scenarios=tuple(records))
    session.folder.write_tested(tested)
    session.parts.artifacts.write_passed(PassedImage(staged=staged, tested=tested))
    return tested


def scenario_key(session: BuildSession, digest: str, image: Image, scenario: Scenario) -> str:
    """sha256 of all that decides a scenario's result: the image, the scenario, its code, and the place."""
    tree = session.source.tree
    files = scenario_files(tree, scenario, session.settings.tests_path)
    decisive = {
        "digest": digest,
        "platform": image.platform,
        "scenario": scenario.model_dump(mode="json"),
        "code": {path: hashlib.sha256(content).hexdigest() for path, content in tree.read_many(files)},
        "place": session.parts.runner.kind,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def _passed_before(session: BuildSession, staged: StagedImage) -> Mapping[str, ScenarioRecord]:
    passed = session.parts.artifacts.read_passed(staged.content_key.digest)
    return {record.key: record for record in passed.tested.scenarios} if passed else {}


def _run(
    session: BuildSession,
    staged: StagedImage,
    image: Image,
    scenario: Scenario,
    key: str,
    log: Callable[[str], None],
) -> ScenarioRecord:
    timeout_minutes = image.tests.timeout_minutes if image.tests else 0
    runner, tree, folder = session.parts.runner, session.source.tree, session.folder
    job = JobRecord(
        job=job_name(session.number, image.id, scenario.name, attempt=1),
        build=session.number,
        image=image.id,
        scenario=scenario.name,
        attempt=1,
        place=runner.kind,
        reference=str(staged_by_digest(session, staged)),
        status="submitting",
        submitted=datetime.now(UTC),
    )
    folder.write_job(job)
    try:
        with tempfile.TemporaryDirectory(prefix=temporary_prefix(session.number)) as temporary:
            code = Path(temporary)
            lay_out(tree, scenario, session.settings.tests_path, code)
            _keep_code(session, scenario)
            result = runner.run(
                TestJob(
                    name=job.job,
                    build=session.number,
                    image=image.id,
                    reference=job.reference,
                    os=image.os,
                    scenario=scenario,
                    code=code,
                    timeout_seconds=timeout_minutes * 60,
                    keep_failed=session.keep_until is not None,
                ),
                log,
            )
    except BaseException as error:
        status = "failed" if isinstance(error, FactoryError) else "canceled"
        folder.write_job(job.model_copy(update={"status": status, "finished": datetime.now(UTC)}))
        raise
    folder.write_job(job.model_copy(update={"status": result.status, "finished": datetime.now(UTC), "url": result.url}))
    for node in result.logs:
        folder.write_log(image.id, f"{scenario.name}.{node.node}.log", node.text)
    if result.status == "canceled":
        session.begin()  # by the cleanup of the build, most likely
    if result.status != "passed":
        raise BuildFailed(
            f"scenario {scenario.name!r} {result.status}: {result.reason}",
            where=image.id,
            mend=f"The logs are in {folder.image(image.id) / 'logs'}.",
            log=_tail(result),
        )
    return ScenarioRecord(
        scenario=scenario.name,
        key=key,
        job=result.job,
        status=result.status,
        seconds=round(result.seconds, 3),
        reason=result.reason,
        url=result.url,
        tested_in=session.number,
    )


def _tail(result: JobResult) -> str:
    lines = [f"{node.node} | {line}" for node in result.logs for line in node.text.splitlines()[-_LOG_TAIL_LINES:]]
    return "\n".join(lines[-2 * _LOG_TAIL_LINES :])


def _keep_code(session: BuildSession, scenario: Scenario) -> None:
    """Keep the test code beside the image folders in the build's artifacts."""
    tree = session.source.tree
    for path, content in tree.read_many(scenario_files(tree, scenario, session.settings.tests_path)):
        write_atomically(session.folder.root / path, content)
