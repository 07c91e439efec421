"""Preflight: finds everything that would stop a build before it starts."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.builds.planning.plan import plan
from aml_images_dagster.builds.steps.evidence import is_attached_by
from aml_images_dagster.builds.steps.isolation import reaching_out
from aml_images_dagster.builds.steps.recipe import secrets_of
from aml_images_dagster.catalog.builder_features import BuilderFeatures, usual_features
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.catalog.windows import check_host
from aml_images_dagster.errors import BadInput, FactoryError
from aml_images_dagster.trust.signing import EvidenceSigner
from aml_images_dagster.vulnerabilities.policy import find_policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.builds.records import Plan
    from aml_images_dagster.builds.session import BuildSession, Source
    from aml_images_dagster.catalog.validation import FeaturesOf


def begin_checked(session: BuildSession) -> None:
    """Begin a build; its first step runs all preflight checks, unless they ran before the build was started.

    Raises:
        BadInput: The build is not possible.
        BuildStopped: It is being cleaned up.
        Unreachable: Something does not answer.
    """
    session.begin()
    if session.is_checked or not session.folder.begin_checks():
        return
    planned = session.plan
    if planned is None:
        check_folders(session.source, session.images, session.backends, for_pull_request=bool(session.pull_request))
        planned = plan(session)
        check_plan(planned)
    check_prerequisites(planned, session.source, session.backends)
    if not session.pull_request:
        for name in sorted(session.images):
            secrets_of(session.image(name), session.settings)
    if is_attached_by(session):
        EvidenceSigner.of(session.settings)


def features_of(backends: Backends) -> FeaturesOf:
    """Asks builders what they can do; of one that does not answer BuildKit as it is today is assumed."""

    @cache
    def ask(os: Literal["linux", "windows"]) -> BuilderFeatures:
        try:
            return backends.builder_for(os).features()
        except FactoryError:
            return usual_features(os)

    return ask


def check_folders(source: Source, images: Iterable[str], backends: Backends, *, for_pull_request: bool = False) -> None:
    """Refuse image folders that cannot be built; findings that only prevent the publication of sources do not count.

    Args:
        source: The image folders.
        images: Their ids.
        backends: The builders, which say what they can do.
        for_pull_request: Whether the files are those of a pull request, which may not reach out of its build.

    Raises:
        BadInput: With all findings at once; or an image is not there.
    """
    names = sorted(images)
    for name in names:
        source.catalog.get(name)
    findings = validate(
        source.catalog, source.tree, names, features_of=features_of(backends), frontends=backends.frontends
    )
    if for_pull_request:
        findings += [finding for name in names for finding in reaching_out(source.catalog.get(name))]
    findings += find_policy(source.tree)[1]
    stopping = [finding for finding in findings if finding.severity == "error" and finding.stops_build]
    if stopping:
        listed = "\n  ".join(str(finding) for finding in stopping)
        raise BadInput(f"these image folders cannot be built:\n  {listed}", hint="`aml-images validate` shows all.")


NOT_POSSIBLE = (
    "Check the names and that this machine reaches the registries, name a mirror (base_mirrors), "
    "or leave these images out."
)
"""What to do where an image of a plan cannot be built."""


def check_plan(planned: Plan) -> None:
    """Refuse a plan in which an image cannot be built.

    Raises:
        BadInput: With everything that stands in the way.
    """
    refused = [
        f"{step.image}: {because}" for step in planned.images if step.action == "refuse" for because in step.because
    ]
    if refused:
        listed = "\n  ".join(refused)
        raise BadInput(
            f"this build is not possible:\n  {listed}",
            hint=NOT_POSSIBLE,
        )


def check_prerequisites(plan: Plan, source: Source, backends: Backends) -> None:
    """Make sure that the registries, engines and test machines that the plan needs answer and fit.

    Raises:
        BadInput: An image needs an engine that is not there.
        Unreachable: Something does not answer.
    """
    for check in backends.checks:
        if check.before_build:
            check.ask()
    to_test = [step for step in plan.images if step.runs_scenarios]
    if to_test:
        tests = [source.catalog.get(step.image).tests for step in to_test]
        platforms = {each.platform for step in to_test for each in step.scenarios if each.status == "run"}
        backends.runner.check({each.compute for each in tests if each}, platforms - {""})
    to_build = [source.catalog.get(step.image) for step in plan.images if step.action == "build"]
    for os in sorted({image.os for image in to_build}):
        builder = backends.builder_for(os)
        info = builder.info()
        for image in to_build:
            if image.os == "windows" == os and info.os_version is not None:
                check_host(image, info.os_version)
        builder.sweep()
