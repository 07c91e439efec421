"""Records of unchanged images, all at once: cost depends on the change, not on the number of images."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aml_images_dagster.builds.records import PassedImage, StagedImage, TestedImage
from aml_images_dagster.builds.steps.evidence import Evidence
from aml_images_dagster.builds.steps.reuse import passed_with
from aml_images_dagster.builds.steps.scenarios import attached_before, passed_scenarios, remember, test
from aml_images_dagster.builds.steps.staging import (
    is_followed,
    keep_sources,
    reuse_planned,
    stage_once,
    staged_again,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aml_images_dagster.builds.records import PlannedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.engine.interface import LogLine

_AT_ONCE = 8
"""Images whose registries are asked, and whose records are written, at once: a disk syncs several like one."""


@dataclass(frozen=True, slots=True)
class Made:
    """An image that had to be made after all.

    Attributes:
        staged: Its `staged.json`.
        tested: Its `tested.json`.
    """

    staged: StagedImage
    tested: TestedImage


def record_unchanged(session: BuildSession, log: LogLine) -> Iterator[Made]:
    """Stage every image that the plan reuses as it is under this build's tag, and write its records.

    Yields:
        Images that were deleted after the build was planned, and images built on them: they are built and tested here.

    Raises:
        BadInput: An image was deleted and cannot be built.
        BuildFailed: An image was deleted, and its build or its tests fail.
        Unreachable: Staging or the artifacts store does not answer.
    """
    unchanged = [planned for planned in (session.plan.images if session.plan else ()) if planned.is_unchanged]
    session.begin()
    session.backends.import_sdks()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        found = list(pool.map(lambda planned: _find(session, planned, log), unchanged))
        keep_sources(session, [session.image(planned.image) for planned in unchanged])
        written: dict[str, Future[None]] = {}
        for planned, passed in zip(unchanged, found, strict=True):  # parents first
            for base in planned.bases:
                if base.image in written:
                    written[base.image].result()
            if passed is not None and is_followed(session, planned, log):
                written[planned.image] = pool.submit(_write, session, passed)
            else:
                staged = stage_once(session, planned.image, log)  # a step that has need of it may be at it, too
                yield Made(staged, test(session, staged, log))
        for each in written.values():
            each.result()


def _write(session: BuildSession, passed: PassedImage) -> None:
    session.folder.write_staged(passed.staged)
    session.folder.write_tested(passed.tested)
    remember(session, passed)


def _find(session: BuildSession, planned: PlannedImage, log: LogLine) -> PassedImage | None:
    """The records of a reused image, once it has this build's tag; None if it was deleted since."""
    session.begin()  # a thread of a step whose run was killed tags nothing of a build that was cleaned up
    staged = session.folder.read_staged(planned.image)  # by a step that has need of it
    if staged is None:
        passed = reuse_planned(session, planned, log)
        staged = staged_again(session, planned.image, passed)
    elif staged.digest == planned.digest:
        passed = passed_with(session, planned.content_key, planned.image, planned.digest)
    else:
        passed = []
    if staged is None or not passed:
        return None
    records = passed_scenarios(passed)
    found = {scenario: records.get(scenario.key) for scenario in planned.scenarios}
    if any(record is None and scenario.status != "untested" for scenario, record in found.items()):
        return None
    scenarios = tuple(record for record in found.values() if record)
    untested = tuple(dict.fromkeys(scenario.platform for scenario, record in found.items() if record is None))
    tested = TestedImage(image=planned.image, digest=staged.digest, scenarios=scenarios, untested=untested)
    evidence = Evidence(session, staged, attached_before(passed)).attach(tested, log)
    return PassedImage(staged=staged, tested=tested, evidence=evidence)
