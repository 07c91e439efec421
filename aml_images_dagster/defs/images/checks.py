"""Asset checks of an image: of what was staged, and one for each scenario. They run in the step of their asset."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import dagster as dg

from aml_images_dagster.builds.compliance.notices import NoticesResult, notices_result
from aml_images_dagster.builds.compliance.vulnerability_gate import GateResult, gate_result
from aml_images_dagster.builds.records import ScenarioRecord, StagedImage, TestedImage, sizes_in_words
from aml_images_dagster.builds.session import BuildSession
from aml_images_dagster.builds.steps.staging import staged_by_digest
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK, Image
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.tree import Tree
from aml_images_dagster.engine.interface import LogLine
from aml_images_dagster.errors import BuildFailed
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.vulnerabilities.policy import POLICY_FILE


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
        verdict: Runs the check.
        blocking: Whether the build fails when the fact does not hold.
    """

    name: str
    description: str
    verdict: Callable[[BuildSession, StagedImage], FactResult]
    blocking: bool = field(kw_only=True)

    def spec(self, key: dg.AssetKey) -> dg.AssetCheckSpec:
        """The check of one image."""
        return dg.AssetCheckSpec(self.name, asset=key, description=self.description, blocking=self.blocking)


def staged_checks(session: BuildSession, record: StagedImage) -> list[dg.AssetCheckResult]:
    """Run every check of a staged image."""
    return [check_result(check, session, record) for check in STAGED_CHECKS]


def is_fine(results: Collection[dg.AssetCheckResult]) -> bool:
    """Whether no check has failed that a build fails with."""
    return all(result.passed or result.severity == dg.AssetCheckSeverity.WARN for result in results)


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
    budget = session.image(record.image).settings.size_budget_mb
    return FactResult(
        budget is None or max(record.sizes.values()) <= budget * 1e6,
        f"{sizes_in_words(record)} compressed, budget {f'{budget} MB' if budget else 'not set in image.json'}",
    )


def _platform(session: BuildSession, record: StagedImage) -> FactResult:
    found = images_of(session.backends.staging, staged_by_digest(session, record))
    wanted = session.image(record.image).platforms
    return FactResult(set(found) == set(wanted), f"{', '.join(found)}, declared {', '.join(wanted)}")


def _notices(_: BuildSession, record: StagedImage) -> FactResult:
    missing = [path for path, there in record.notices.items() if not there]
    return FactResult(
        not missing, f"missing: {', '.join(missing)}" if missing else f"found: {', '.join(record.notices)}"
    )


SIZE = StagedCheck(
    "size", "The compressed size is within the budget of image.json, on each platform.", _size, blocking=False
)
STAGED_CHECKS = (
    StagedCheck("digest", "The registry serves the digest that was pushed.", _digest, blocking=True),
    StagedCheck("platform", "Operating system and architecture are as declared.", _platform, blocking=True),
    SIZE,
    StagedCheck("notices", "Licence and third-party notices are in the image.", _notices, blocking=False),
)

NOTICES_DRIFT = "notices_drift"
VULNERABILITIES = "vulnerabilities"
_MOST_SHOWN = 200
"""Rows that the page of a check lists."""


_GATES = {
    VULNERABILITIES: "Known vulnerabilities and licences are such as policy.yaml allows, and those have looked who "
    "have to.",
    NOTICES_DRIFT: f"{NOTICES_LOCK} names what is in the image.",
}


def _gates(image: Image, tree: Tree) -> list[str]:
    """The gates of an image: a repository may have a policy, and a folder a lock of its notices."""
    files = tree.files()
    kept = {VULNERABILITIES: POLICY_FILE, NOTICES_DRIFT: image.file(NOTICES_LOCK)}
    return [name for name, path in kept.items() if path in files]


def has_gate(session: BuildSession, image: str) -> bool:
    """Whether there is a gate for an image of a build."""
    return bool(_gates(session.image(image), session.source.tree))


def gate_specs(image: Image, tree: Tree, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """The checks of the gates of an image."""
    return [dg.AssetCheckSpec(name, asset=key, description=_GATES[name]) for name in _gates(image, tree)]


def gate_results(
    session: BuildSession, record: StagedImage, log: LogLine
) -> Iterator[tuple[dg.AssetCheckResult, BuildFailed | None]]:
    """Ask every gate about an image: the result of each that there is, and what the build has to fail with."""
    notices = notices_result(session, record, log)
    if notices:
        yield notices_check(notices), notices.failure(record.image) if notices.is_blocked else None
    gate = gate_result(session, record, log)
    if gate:
        yield gate_check(gate), gate.failure(record.image) if gate.is_closed else None


def notices_check(result: NoticesResult) -> dg.AssetCheckResult:
    """What a build says of the notices of an image."""
    rows = [
        dg.TableRecord(
            {
                "what": change.what,
                "type": change.component.type,
                "component": change.component.name,
                "lock": change.before,
                "image": change.after,
                "of the base": change.component.base,
                NOTICES_LOCK: change.lock_line,
                NOTICES_FILE: change.notices_line,
            }
        )
        for change in result.changes[:_MOST_SHOWN]
    ]
    return dg.AssetCheckResult(
        check_name=NOTICES_DRIFT,
        passed=not result.changes,
        severity=dg.AssetCheckSeverity.ERROR if result.is_blocked else dg.AssetCheckSeverity.WARN,
        description=result.found,
        metadata={"drift": dg.MetadataValue.table(rows)} if rows else {},
    )


def gate_check(result: GateResult) -> dg.AssetCheckResult:
    """What the gate says of an image. One that nobody has looked into has not passed."""
    rows = [
        dg.TableRecord(
            {
                "vulnerability": each.id,
                "package": each.package,
                "installed": each.installed,
                "fixed in": each.fixed_in,
                "since": str(each.fixed_since or ""),
                "severity": each.severity,
                "source": each.source,
                "policy": verdict,
            }
        )
        for each, verdict in [*result.assessment.verdicts.items()][:_MOST_SHOWN]
    ]
    return dg.AssetCheckResult(
        check_name=VULNERABILITIES,
        passed=result.assessment.passed and bool(result.assessment.looked),
        severity=dg.AssetCheckSeverity.ERROR if result.is_closed else dg.AssetCheckSeverity.WARN,
        description=result.found,
        metadata={"vulnerabilities": dg.MetadataValue.table(rows)} if rows else {},
    )


def evaluation(key: dg.AssetKey, result: dg.AssetCheckResult) -> dg.AssetCheckEvaluation:
    """The event of a check, where no materialization brings it."""
    return dg.AssetCheckEvaluation(
        asset_key=key,
        check_name=str(result.check_name),
        passed=result.passed,
        severity=result.severity,
        description=result.description,
        metadata=result.metadata,
    )


def check_name(scenario: str) -> str:
    """Name of the check of a scenario; Dagster's names have no hyphens, and those of scenarios no underscores."""
    return scenario.replace("-", "_")


def scenario_checks(image: Image, key: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """A check for each scenario of an image, so that each has a history of its own."""
    return [
        dg.AssetCheckSpec(
            check_name(scenario.name), asset=key, description=f"{scenario.name} of tests.json has passed."
        )
        for scenario in image.scenarios
    ]


def scenario_results(record: TestedImage, known: Collection[dg.AssetCheckKey]) -> list[dg.AssetCheckResult]:
    """The checks of an image that has passed. The build may have other scenarios than the code location has loaded."""
    names = {key.name for key in known}
    by_name: dict[str, list[ScenarioRecord]] = {}
    for scenario in record.scenarios:
        by_name.setdefault(check_name(scenario.scenario), []).append(scenario)
    return [
        dg.AssetCheckResult(
            check_name=name,
            passed=True,
            description="; ".join((*map(_how, runs), *(f"{platform}: not tested" for platform in record.untested))),
            metadata={"seconds": runs[0].seconds, "job": runs[0].job, "tested_in": runs[0].tested_in},
        )
        for name, runs in by_name.items()
        if name in names
    ]


def _how(scenario: ScenarioRecord) -> str:
    platform = f"{scenario.platform}: " if scenario.platform else ""
    return f"{platform}passed in {scenario.seconds:.1f} s, in build {scenario.tested_in}"


def without_result(
    context: dg.AssetExecutionContext, checked: Collection[dg.AssetCheckKey] = ()
) -> Iterator[dg.Output[None]]:
    """Outputs of selected checks that have no result now: the last one stands. Dagster misses an output, not a result.

    Args:
        context: Of the step.
        checked: Those that have one.
    """
    for output, spec in context.assets_def.check_specs_by_output_name.items():
        if spec.key in context.selected_asset_check_keys and spec.key not in checked:
            yield dg.Output(None, output)
