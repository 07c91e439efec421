"""Everything that Dagster loads, with what must hold for every asset."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan

from aml_images_dagster.defs.keys import (
    BUILD_JOB,
    CLEANUP,
    DROP,
    ENDED_BUILDS,
    FLEET,
    IMPORT_CFG,
    OPERATIONS_GROUP,
    PRODUCTION_GROUP,
    RELEASE_GROUP,
    RELEASE_JOB,
    RELEASE_JSON,
    STAGES,
    UPSTREAM_GROUP,
    asset_key,
    base_key,
    image_of,
    released_key,
)
from aml_images_dagster.defs.pools import BUILD_POOL, OPERATIONS_POOL, TEST_POOL, WINDOWS_BUILD_POOL
from aml_images_dagster.defs.request import RESOURCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.image_repository import ImageRepository

    Load = Callable[[ImageRepository], dg.Definitions]

BUSYBOX = base_key("docker.io/library/busybox:latest")
IMAGES = ("apps/hello", "apps/other", "tools/shell")
RELEASED = {released_key(image) for image in IMAGES}
WINDOWS = "FROM mcr.microsoft.com/windows/servercore:ltsc2022\n"


def plan_of(definitions: dg.Definitions) -> list[str]:
    plan = create_execution_plan(definitions.resolve_job_def(BUILD_JOB))
    return [step.key for step in plan.get_all_steps_in_topo_order()]


def nodes(definitions: dg.Definitions) -> dict[dg.AssetKey, Any]:
    return {node.key: node for node in definitions.resolve_asset_graph().asset_nodes}


def parents(definitions: dg.Definitions, image: str, stage: str) -> set[dg.AssetKey]:
    return set(nodes(definitions)[asset_key(image, stage)].parent_keys)  # type: ignore[arg-type]


def test_every_asset(repository: ImageRepository, load: Load) -> None:
    definitions = load(repository)
    found = nodes(definitions)
    assert set(found) == {asset_key(image, stage) for image in IMAGES for stage in STAGES} | {
        RELEASE_JSON,
        IMPORT_CFG,
        DROP,
        CLEANUP,
        ENDED_BUILDS,
        FLEET,
        BUSYBOX,
        *RELEASED,
    }
    for key, node in found.items():
        if key == BUSYBOX:
            continue
        split = image_of(key)
        operations = dict.fromkeys((CLEANUP, ENDED_BUILDS, FLEET), OPERATIONS_GROUP)
        others = {**operations, **dict.fromkeys(RELEASED, PRODUCTION_GROUP)}.get(key, RELEASE_GROUP)
        assert node.group_name == (split[0].partition("/")[0] if split else others)
        assert node.description
        assert 1 <= len(node.kinds) <= 3
        assert node.is_materializable
        assert node.is_executable


def test_every_asset_takes_the_build_back_when_it_fails(repository: ImageRepository, load: Load) -> None:
    for asset in load(repository).resolve_asset_graph().assets_defs:
        # No part of a build, or checks alone.
        if asset.keys in (set(), {CLEANUP}, {ENDED_BUILDS}, {FLEET}, {BUSYBOX}, RELEASED):
            continue
        assert {hook.name for hook in asset.hook_defs} == {"cleanup_build"}, asset


@pytest.mark.parametrize("stage", [*STAGES, "released"])
def test_a_tag_selects_a_stage(repository: ImageRepository, load: Load, stage: str) -> None:
    graph = load(repository).resolve_asset_graph()
    selected = dg.AssetSelection.from_string(f'tag:"stage"="{stage}"').resolve(graph)
    assert selected == {key for key in graph.get_all_asset_keys() if key.path[-1].endswith(f".{stage}")}
    assert selected


def test_pools(repository: ImageRepository, load: Load) -> None:
    repository.write_image("tools/windows", WINDOWS)
    for key, node in nodes(load(repository)).items():
        split = image_of(key)
        stage = split[1] if split else ""
        build_pool = WINDOWS_BUILD_POOL if split and split[0] == "tools/windows" else BUILD_POOL
        pools = {"staged": {build_pool}, "tested": {TEST_POOL}}.get(stage, set())
        assert node.pools == ({OPERATIONS_POOL} if key in (CLEANUP, ENDED_BUILDS) else pools), key


def test_the_chain_of_each_image_and_the_edges_between_them(repository: ImageRepository, load: Load) -> None:
    definitions = load(repository)
    for image in IMAGES:
        assert parents(definitions, image, "tested") == {asset_key(image, "staged")}
        assert parents(definitions, image, "release_config") == {asset_key(image, "tested")}
        assert parents(definitions, image, "import_cfg") == {asset_key(image, "release_config")}
    assert parents(definitions, "apps/hello", "staged") == {asset_key("tools/shell", "staged")}
    assert parents(definitions, "apps/other", "staged") == {BUSYBOX}
    found = nodes(definitions)
    assert set(found[RELEASE_JSON].parent_keys) == {asset_key(image, "release_config") for image in IMAGES}
    assert set(found[IMPORT_CFG].parent_keys) == {asset_key(image, "import_cfg") for image in IMAGES}
    assert set(found[DROP].parent_keys) == {RELEASE_JSON, IMPORT_CFG}


def test_copy_from_is_an_edge_too(repository: ImageRepository, load: Load) -> None:
    repository.write_image("apps/other", "FROM busybox\nCOPY --from=registry.example/shell /greeting /\n")
    assert parents(load(repository), "apps/other", "staged") == {asset_key("tools/shell", "staged"), BUSYBOX}


@pytest.mark.parametrize("more", [0, 4])
def test_two_steps_per_image_and_one_per_build(repository: ImageRepository, load: Load, more: int) -> None:
    for number in range(more):
        repository.write_image(f"apps/more{number}", "FROM busybox\n")
    keys = plan_of(load(repository))
    assert len(keys) == 2 * (len(IMAGES) + more) + 1
    assert keys[-1] == "release_files"


def test_bases_are_observed_before_what_is_built_on_them(repository: ImageRepository, load: Load) -> None:
    repository.write_image(
        "apps/tool", "FROM ubuntu:22.04\nCOPY --from=127.0.0.1:5000/x/y@sha256:" + "0" * 64 + " / /\n"
    )
    repository.write_image("apps/same", "FROM docker.io/library/ubuntu:22.04\n")
    found = nodes(load(repository))
    ubuntu = base_key("docker.io/library/ubuntu:22.04")
    assert ubuntu.path[-1] == "ubuntu--22.04"
    assert found[ubuntu].is_observable
    assert not found[ubuntu].is_materializable
    assert found[ubuntu].child_keys == {asset_key("apps/tool", "staged"), asset_key("apps/same", "staged")}
    assert found[ubuntu].group_name == UPSTREAM_GROUP


def test_bases_that_dagster_cannot_tell_apart_keep_nothing_from_loading(
    repository: ImageRepository, load: Load
) -> None:
    for number, tag in enumerate(("1.0", "1-0", "1_0")):
        repository.write_image(f"apps/tool{number}", f"FROM ubuntu:{tag}\n")
    assert asset_key("apps/tool2", "import_cfg") in nodes(load(repository))


def test_names_that_dagster_cannot_tell_apart_keep_no_other_from_loading(
    repository: ImageRepository, load: Load
) -> None:
    for name in ("a-b", "a.b", "a_b"):
        repository.write_image(f"apps/{name}", "FROM busybox\n")
    definitions = load(repository)
    assert {image_of(key)[0] for key in nodes(definitions) if image_of(key)} == set(IMAGES)  # type: ignore[index]
    assert len(plan_of(definitions)) == 2 * len(IMAGES) + 1
    findings = json.loads(repository.run("validate", "--json").stdout)["findings"]
    told = {finding["image"] for finding in findings if "would have the same name" in finding["message"]}
    assert told == {"apps/a-b", "apps/a.b", "apps/a_b"}


@pytest.mark.parametrize("folder", ["apps/a b", "Apps/other", "apps/ä", "a b/c", "apps/x--y"])
def test_names_that_no_registry_takes_keep_no_other_from_loading(
    repository: ImageRepository, load: Load, folder: str
) -> None:
    repository.write(repository.root / "images" / folder / "Dockerfile", "FROM busybox\n")
    assert {image_of(key)[0] for key in nodes(load(repository)) if image_of(key)} == set(IMAGES)  # type: ignore[index]


@pytest.mark.parametrize("names", [("staged", "a.staged", "tested"), ("a", "a.staged", "a.release-config")])
def test_names_like_stages(repository: ImageRepository, load: Load, names: tuple[str, ...]) -> None:
    for name in names:
        repository.write_image(f"apps/{name}", "FROM busybox\n")
    definitions = load(repository)
    keys = plan_of(definitions)
    assert len(keys) == len(set(keys)) == 2 * (len(IMAGES) + len(names)) + 1
    for name in names:
        assert parents(definitions, f"apps/{name}", "tested") == {asset_key(f"apps/{name}", "staged")}


def test_families_that_are_the_same_group(repository: ImageRepository, load: Load) -> None:
    for family, name in (("base-gpu", "cuda12"), ("base.gpu", "cuda13")):
        repository.write(repository.root / "images" / family / name / "Dockerfile", "FROM busybox\n")
    found = nodes(load(repository))
    chains = {key: node for key, node in found.items() if image_of(key) and key.path[0].startswith("base")}
    assert {node.group_name for node in chains.values()} == {"base_gpu"}


@pytest.mark.parametrize(
    "owners",
    [
        ["a@example.org"],
        ["team:images"],
        ["someone"],
        ["team:a b"],
        ["team:"],
        ["a@b"],
        ["team:a@example.org"],
        ["team:ä-b"],
        ["a@example.photography"],
        ["-a@example.org"],
    ],
)
def test_no_image_json_keeps_the_others_from_loading(
    repository: ImageRepository, load: Load, owners: list[str]
) -> None:
    repository.write(repository.folder("apps/other") / "image.json", json.dumps({"owners": owners}))
    found = nodes(load(repository))
    shown = found[asset_key("apps/other", "staged")].owners
    assert shown in ([], owners)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("image.json", "{"),
        ("image.json", json.dumps({"description": "[/] {x} {{ </b> \u202e"})),
        ("tests.json", "["),
        ("Dockerfile", "NONSENSE\n"),
        ("Dockerfile", "FROM No Such:Thing\n"),
        ("Dockerfile", ""),
        ("tests.json", '{"timeout_minutes": ' + "9" * 5_000 + "}"),
        (".dockerignore", "["),
    ],
)
def test_a_broken_folder_keeps_no_other_from_loading(
    repository: ImageRepository, load: Load, file: str, content: str
) -> None:
    (repository.folder("tools/shell") / file).write_text(content)
    definitions = load(repository)
    assert asset_key("apps/other", "import_cfg") in nodes(definitions)
    assert asset_key("apps/hello", "import_cfg") in nodes(definitions)
    assert plan_of(definitions)


def test_images_that_are_from_each_other_keep_no_other_from_loading(repository: ImageRepository, load: Load) -> None:
    (repository.folder("tools/shell") / "Dockerfile").write_text("FROM registry.example/hello\n")
    definitions = load(repository)
    assert asset_key("apps/other", "import_cfg") in nodes(definitions)
    assert asset_key("apps/hello", "import_cfg") not in nodes(definitions)
    assert plan_of(definitions)


def test_a_repository_without_images_loads(repository: ImageRepository, load: Load) -> None:
    for image in IMAGES:
        (repository.folder(image) / "Dockerfile").unlink()
    assert set(nodes(load(repository))) == {CLEANUP, ENDED_BUILDS, FLEET}


@pytest.mark.parametrize("executor", ["fork", "multiprocess"])
def test_the_executor_is_what_the_setting_says(
    repository: ImageRepository, load: Load, monkeypatch: pytest.MonkeyPatch, executor: str
) -> None:
    monkeypatch.setenv("AML_IMAGES_EXECUTOR", executor)
    assert load(repository).resolve_job_def(BUILD_JOB).executor_def.name == executor


def test_the_sensors(repository: ImageRepository, load: Load) -> None:
    definitions = load(repository)
    sensors = {sensor.name: sensor for sensor in definitions.sensors or ()}
    assert set(sensors) >= {"cleanup_failed_builds", "cleanup_canceled_builds"}
    for sensor in sensors.values():
        if sensor.name.startswith("cleanup_"):
            assert sensor.default_status is dg.DefaultSensorStatus.RUNNING


@pytest.mark.parametrize("family", ["production", "operations", "release", "upstream", "schedules"])
def test_a_family_named_like_a_group_of_ours_is_built_like_any_and_has_its_own(
    repository: ImageRepository, load: Load, family: str
) -> None:
    image = f"{family}/tool"
    repository.write(repository.root / "images" / family / "tool" / "Dockerfile", "FROM busybox\n")
    definitions = load(repository)
    staged = asset_key(image, "staged")
    assert staged in definitions.resolve_job_def(BUILD_JOB).asset_layer.executable_asset_keys
    released = definitions.resolve_job_def(RELEASE_JOB).asset_layer.executable_asset_keys
    assert released == RELEASED | {released_key(image)}
    groups = {key: node.group_name for key, node in nodes(definitions).items()}
    assert {key for key, group in groups.items() if group == groups[staged]} == {
        asset_key(image, stage) for stage in STAGES
    }


def fields(definitions: dg.Definitions) -> dict[str, Any]:
    job = definitions.resolve_job_def(BUILD_JOB)
    resources = job.run_config_schema.config_type.fields["resources"]  # type: ignore[attr-defined]
    options = resources.config_type.fields[RESOURCE]
    return dict(options.config_type.fields["config"].config_type.fields)


def test_the_one_block_of_the_launchpad(repository: ImageRepository, load: Load) -> None:
    found = fields(load(repository))
    assert set(found) == {
        "release_num",
        "release_tag",
        "docker_files_path",
        "source_commit",
        "force",
        "keep_failed",
        "reasons",
        "plan",
    }
    assert {name for name, field in found.items() if field.is_required} == set()
    assert all(field.description for field in found.values())


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"resources": {RESOURCE: {"config": {}}}},
        {"resources": {RESOURCE: {"config": {"release_num": 2, "docker_files_path": "images", "force": True}}}},
        {"resources": {RESOURCE: {"config": {"release_tag": "x", "reasons": {"apps/other": ["because"]}}}}},
    ],
)
def test_run_config_that_is_valid(repository: ImageRepository, load: Load, config: dict[str, Any]) -> None:
    assert dg.validate_run_config(load(repository).resolve_job_def(BUILD_JOB), config)


@pytest.mark.parametrize("options", [{"novelty": 1}, {"release_num": "two"}])
def test_run_config_that_is_not(repository: ImageRepository, load: Load, options: dict[str, Any]) -> None:
    with pytest.raises(dg.DagsterInvalidConfigError):
        dg.validate_run_config(
            load(repository).resolve_job_def(BUILD_JOB), {"resources": {RESOURCE: {"config": options}}}
        )


def test_dagster_takes_them_as_a_whole(repository: ImageRepository, load: Load) -> None:
    """It looks for names that exclude each other only when it serves them."""
    found = load(repository).get_repository_def()
    assert {"build", "release", "rollback", "withdraw"} <= set(found.job_names)
    found.load_all_definitions()


def test_no_run_stays_under_way_for_ever_when_its_machine_is_killed(repository: ImageRepository, load: Load) -> None:
    jobs = load(repository).get_repository_def().get_all_jobs()
    assert {BUILD_JOB, RELEASE_JOB} < {job.name for job in jobs}
    silent = {dg.in_process_executor, dg.multiprocess_executor, dg.multi_or_in_process_executor}
    assert {job.name: job.executor_def.name for job in jobs if job.executor_def in silent} == {}
