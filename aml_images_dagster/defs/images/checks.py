"""Asset checks of a staged image. They run in the step that stages it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import dagster as dg

from aml_images_dagster.builds.records import StagedImage
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.staging import staged_by_digest
from aml_images_dagster.catalog.reference import Reference


@dataclass(frozen=True, slots=True)
class FactResult:
    """What a check found.

    Attributes:
        passed: Whether the fact holds.
        found: What was found, in a sentence.
    """

    passed: bool
    found: str


@dataclass(frozen=True, slots=True)
class StagedCheck:
    """A check of a staged image.

    Attributes:
        name: Its name in the UI.
        description: The fact that it checks.
        blocking: Whether the build fails when the fact does not hold.
        verdict: Runs the check.
    """

    name: str
    description: str
    blocking: bool
    verdict: Callable[[BuildSession, StagedImage], FactResult]

    def spec(self, key: dg.AssetKey) -> dg.AssetCheckSpec:
        """The check of one image."""
        return dg.AssetCheckSpec(self.name, asset=key, description=self.description, blocking=self.blocking)


def staged_checks(session: BuildSession, record: StagedImage) -> list[dg.AssetCheckResult]:
    """Run every check of a staged image."""
    return [check_result(check, session, record) for check in STAGED_CHECKS]


def check_result(check: StagedCheck, session: BuildSession, record: StagedImage) -> dg.AssetCheckResult:
    """Run one check of a staged image."""
    verdict = check.verdict(session, record)
    return dg.AssetCheckResult(
        check_name=check.name,
        passed=verdict.passed,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=verdict.found,
    )


def _digest(session: BuildSession, record: StagedImage) -> FactResult:
    served = session.backends.staging.digest(Reference.parse(record.reference))
    return FactResult(served == record.digest, f"{record.reference} serves {served or 'nothing'}")


def _size(session: BuildSession, record: StagedImage) -> FactResult:
    size, budget = record.size_bytes / 1e6, session.image(record.image).settings.size_budget_mb
    return FactResult(
        budget is None or size <= budget,
        f"{size:.1f} MB compressed, budget {f'{budget} MB' if budget else 'not set in image.json'}",
    )


def _platform(session: BuildSession, record: StagedImage) -> FactResult:
    config = session.backends.staging.config(staged_by_digest(session, record))
    found = f"{config.get('os')}/{config.get('architecture')}"
    wanted = session.image(record.image).platform
    return FactResult(found == wanted, f"{found}, declared {wanted}")


def _notices(_: BuildSession, record: StagedImage) -> FactResult:
    missing = [path for path, there in record.notices.items() if not there]
    return FactResult(
        not missing, f"missing: {', '.join(missing)}" if missing else f"found: {', '.join(record.notices)}"
    )


SIZE = StagedCheck("size", "The compressed size is within the budget of image.json.", False, _size)
STAGED_CHECKS = (
    StagedCheck("digest", "The registry serves the digest that was pushed.", True, _digest),
    StagedCheck("platform", "Operating system and architecture are as declared.", True, _platform),
    SIZE,
    StagedCheck("notices", "Licence and third-party notices are in the image.", False, _notices),
)
