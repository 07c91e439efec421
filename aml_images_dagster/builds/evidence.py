"""What the records of a build say of an image to others: where it comes from, and which tests it has passed."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from aml_images_dagster.builds.records import on_platform
from aml_images_dagster.trust.statements import Dependency, ImageBuild, TestRun, provenance, results_of_tests

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.builds.records import BuildRecord, StagedImage, TestedImage


def provenance_of(
    record: BuildRecord, staged: StagedImage, builder_id: str, parents: Mapping[str, str]
) -> dict[str, Any]:
    """The provenance of an image that this build has built.

    The same records give the same statement, so attaching it again attaches nothing new.

    Args:
        record: The build.
        staged: The image.
        builder_id: URI of the factory.
        parents: Each base that is an image of our own, as the Dockerfile names it → `<family>/<name>`.
    """
    key = staged.content_key
    return provenance(
        ImageBuild(
            image=staged.image,
            digest=staged.digest,
            platform=key.platform,
            source=record.source,
            commit=record.commit,
            content_key=key.digest,
            dockerfile=key.dockerfile,
            build_args=key.build_args,
            dependencies=tuple(
                Dependency(base.reference, base.digest, parents.get(base.reference, "")) for base in staged.bases
            ),
            reasons=tuple(dict.fromkeys((*staged.reasons, *staged.because))),
            build=record.build,
            run=record.run_id,
            trigger=record.started_by,
            release_tag=record.release_tag,
            builder_id=builder_id,
            version=version("aml-images-dagster"),
            started=record.created,
        )
    )


def scenario_results_of(tested: TestedImage) -> dict[str, Any]:
    """The scenarios that an image has passed."""
    runs = tuple(
        TestRun(
            scenario=on_platform(scenario.scenario, scenario.platform),
            passed=scenario.status == "passed",
            where=scenario.sdk,
            url=scenario.url,
            tested_in=scenario.tested_in,
        )
        for scenario in tested.scenarios
    )
    return results_of_tests(tested.image, tested.digest, runs)
