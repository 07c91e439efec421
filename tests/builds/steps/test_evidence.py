"""What the records of a build say to others."""

from __future__ import annotations

from aml_images_dagster.builds.records import BaseImage, TestedImage
from aml_images_dagster.builds.steps.evidence import provenance_of, scenario_results_of
from aml_images_dagster.catalog.content_key import ContentKey
from tests.records import DIGEST, build_record, passed_scenario, staged_image

BUILD = "20261123.aaaaaaaa"
BASES = (
    BaseImage(reference="debian:12", digest=f"sha256:{'2' * 64}"),
    BaseImage(reference="registry.example/shell", digest=f"sha256:{'3' * 64}"),
)


def said() -> dict:
    record = build_record(BUILD, commit="3f" * 20, trigger="command line")
    key = ContentKey(dockerfile="d" * 64, files={}, build_args={"V": "1"}, platform="linux/arm64", bases={})
    staged = staged_image(
        "apps/hello",
        BUILD,
        bases=BASES,
        content_key=key,
        reasons=("its folder changed",),
        because=("Dockerfile changed",),
    )
    return provenance_of(record, staged, "https://contoso.example/images", {"registry.example/shell": "tools/shell"})


def test_provenance_is_what_the_records_say():
    statement = said()
    assert statement["subject"] == [{"name": "apps/hello", "digest": {"sha256": DIGEST.removeprefix("sha256:")}}]
    definition = statement["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {
        "image": "apps/hello",
        "platform": "linux/arm64",
        "source": definition["resolvedDependencies"][0],
        "buildArgs": {"V": "1"},
    }
    assert definition["internalParameters"]["reasons"] == ["its folder changed", "Dockerfile changed"]
    assert definition["internalParameters"]["trigger"] == "command line"
    assert len(definition["internalParameters"]["contentKey"]) == 64
    dependencies = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert dependencies["source"]["uri"] == f"git+https://git.example/images@{'3f' * 20}"
    assert dependencies["base"]["digest"] == {"sha256": "2" * 64}
    assert dependencies["parent"]["annotations"] == {"image": "tools/shell"}
    assert statement["predicate"]["runDetails"]["metadata"]["invocationId"] == BUILD


def test_the_same_records_give_the_same_statement():
    assert said() == said()


def test_scenarios_that_passed_are_named_with_the_build_that_ran_them():
    scenario = passed_scenario("mpi", "20261122.bbbbbbbb", url="https://ml.example/job", sdk="azure-ai-ml 1.35")
    statement = scenario_results_of(TestedImage(image="apps/hello", digest=DIGEST, scenarios=(scenario,)))
    assert statement["predicate"]["result"] == "PASSED"
    assert statement["predicate"]["passedTests"] == ["mpi"]
    assert statement["predicate"]["configuration"] == [
        {
            "name": "mpi",
            "uri": "https://ml.example/job",
            "annotations": {"where": "azure-ai-ml 1.35", "testedIn": "20261122.bbbbbbbb"},
        }
    ]


def test_a_scenario_that_ran_on_several_platforms_is_named_with_each():
    scenarios = tuple(
        passed_scenario("mpi", BUILD, key=platform, platform=platform) for platform in ("linux/amd64", "linux/arm64")
    )
    statement = scenario_results_of(TestedImage(image="apps/hello", digest=DIGEST, scenarios=scenarios))
    assert "mpi (linux/amd64)" in str(statement)
    assert "mpi (linux/arm64)" in str(statement)
