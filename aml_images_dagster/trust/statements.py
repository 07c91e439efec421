"""What is said of an image: where it comes from, and which tests it has passed.

Source: https://in-toto.io/Statement/v1 with the predicates https://slsa.dev/provenance/v1 and
https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from aml_images_dagster.catalog.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Mapping

STATEMENT = "https://in-toto.io/Statement/v1"
PROVENANCE = "https://slsa.dev/provenance/v1"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
BUILD_TYPE = "pkg:generic/aml-images-dagster#image-build/v1"
"""What the parameters of provenance mean: docs/trust.md, "Where it comes from"."""

_COMMIT = re.compile(r"([0-9a-f]{40}|[0-9a-f]{64})(-dirty)?")


@dataclass(frozen=True, slots=True)
class Dependency:
    """What an image is built on.

    Attributes:
        reference: As the Dockerfile names it.
        digest: What it pointed to.
        image: For an image of our own `<family>/<name>`; else empty.
    """

    reference: str
    digest: str
    image: str = ""


@dataclass(frozen=True, slots=True)
class ImageBuild:
    """How an image was built.

    Attributes:
        image: `<family>/<name>`.
        digest: Digest of the image.
        platform: E.g. `linux/amd64`.
        source: URL of the repository, without credentials; what is no URL of a remote is left out.
        commit: The commit; with `-dirty` when the working tree had changes beyond it.
        content_key: One hash of all inputs.
        dockerfile: sha256 of the Dockerfile, before its bases are pinned, in hexadecimal.
        build_args: Values for ARG.
        target: The stage of the Dockerfile that makes the image; empty for the last one.
        dependencies: What it is built on.
        reasons: Why it is part of the build, and why it was built.
        build: Number of the build.
        run: Id of the run.
        trigger: What started the build.
        release_tag: The tag under which it is to be released.
        builder_id: URI of the factory.
        version: Version of the factory.
        started: When the build started.
        finished: When the image was there; None when that is not known.
    """

    image: str
    digest: str
    platform: str
    source: str
    commit: str
    content_key: str
    dockerfile: str
    dependencies: tuple[Dependency, ...]
    reasons: tuple[str, ...]
    build: str
    run: str
    trigger: str
    release_tag: str
    builder_id: str
    version: str
    started: datetime
    finished: datetime | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    target: str = ""


@dataclass(frozen=True, slots=True)
class TestRun:
    """The result of a scenario.

    Attributes:
        scenario: Its name.
        passed: Whether it passed.
        where: What ran it, e.g. `azure-ml`; empty when that is not known.
        url: Page of the job; may be empty.
        tested_in: Number of the build that ran it.
    """

    __test__ = False

    scenario: str
    passed: bool
    where: str = ""
    url: str = ""
    tested_in: str = ""


def provenance(build: ImageBuild) -> dict[str, Any]:
    """The statement that says how an image was built: SLSA provenance 1.0.

    The same build gives the same statement.
    """
    source = _source(build)
    external = {"image": build.image, "platform": build.platform, "source": source, "buildArgs": dict(build.build_args)}
    if build.target:
        external["target"] = build.target
    internal = {
        "contentKey": build.content_key,
        "dockerfile": build.dockerfile,
        "reasons": list(build.reasons),
        "trigger": build.trigger,
        "releaseTag": build.release_tag,
        "run": build.run,
    }
    metadata = {"invocationId": build.build, "startedOn": _written(build.started)}
    if build.finished:
        metadata["finishedOn"] = _written(build.finished)
    return _statement(
        build.image,
        build.digest,
        PROVENANCE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": {name: value for name, value in internal.items() if value},
                "resolvedDependencies": [
                    *([source] if source else []),
                    *(_image(dependency) for dependency in build.dependencies),
                ],
            },
            "runDetails": {
                "builder": {"id": build.builder_id, "version": {"aml-images-dagster": build.version}},
                "metadata": metadata,
            },
        },
    )


def results_of_tests(image: str, digest: str, runs: tuple[TestRun, ...]) -> dict[str, Any]:
    """The statement that says which scenarios an image has passed.

    Args:
        image: `<family>/<name>`.
        digest: Digest of the image.
        runs: The scenarios.
    """
    configuration = [
        {"name": run.scenario, **({"uri": run.url} if run.url else {}), "annotations": _annotations(run)}
        for run in runs
    ]
    return _statement(
        image,
        digest,
        TEST_RESULT,
        {
            "result": "PASSED" if all(run.passed for run in runs) else "FAILED",
            "configuration": configuration,
            "passedTests": [run.scenario for run in runs if run.passed],
            "failedTests": [run.scenario for run in runs if not run.passed],
        },
    )


def says_of(statement: Mapping[str, Any], digest: str) -> bool:
    """Whether a statement is about an image."""
    subjects = statement.get("subject")
    algorithm, _, value = digest.partition(":")
    return (
        statement.get("_type") == STATEMENT
        and isinstance(subjects, list)
        and any(
            isinstance(subject, dict)
            and isinstance(subject.get("digest"), dict)
            and subject["digest"].get(algorithm) == value
            for subject in subjects
        )
    )


def _statement(image: str, digest: str, predicate_type: str, predicate: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT,
        "subject": [{"name": image, "digest": _digest_set(digest)}],
        "predicateType": predicate_type,
        "predicate": predicate,
    }


def _source(build: ImageBuild) -> dict[str, Any]:
    """The source, as a resource; a folder of this machine says nothing to others."""
    found = _COMMIT.fullmatch(build.commit)
    is_remote = re.match(r"(https?|ssh|git)://|[\w.-]+@[\w.-]+:", build.source)
    resource: dict[str, Any] = {}
    if is_remote:
        at = f"@{found[1]}" if found else ""
        resource["uri"] = f"{'' if build.source.startswith('git') else 'git+'}{build.source}{at}"
    if found:
        resource["digest"] = {"gitCommit": found[1]}
        if found[2]:
            resource["annotations"] = {"dirty": True}
    return {"name": "source", **resource} if resource else {}


def _image(dependency: Dependency) -> dict[str, Any]:
    """An image, as a resource. Source of its URI: purl-spec, type oci."""
    reference = Reference.parse(dependency.reference)
    where = {"repository_url": reference.name, **({"tag": reference.tag} if reference.tag else {})}
    name = reference.repository.rpartition("/")[2]
    resource = {
        "name": "parent" if dependency.image else "base",
        "uri": f"pkg:oci/{name}@{quote(dependency.digest, safe='')}?{urlencode(where, safe='/')}",
        "digest": _digest_set(dependency.digest),
    }
    return resource | ({"annotations": {"image": dependency.image}} if dependency.image else {})


def _annotations(run: TestRun) -> dict[str, str]:
    said = {"where": run.where, "testedIn": run.tested_in}
    return {name: value for name, value in said.items() if value}


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
