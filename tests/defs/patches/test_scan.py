"""The run that scans production: the check `patched` of each image, and what it keeps."""

# ruff: noqa: F811 - fixtures of another module are imported by name

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from aml_images_dagster.builds.compliance.patches import ProductionScans
from aml_images_dagster.builds.source import load_source
from aml_images_dagster.defs.keys import PATCHED, SCAN_JOB, released_key
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.patches.scan import patched_checks
from aml_images_dagster.defs.run import FACTORY, Factory
from tests.builds.compliance.test_patch_scan import World, _packages, world  # noqa: F401 - a fixture
from tests.builds.in_memory import write

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = ("app/b", "base/a")


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def _scan(world: World, instance: dg.DagsterInstance, *images: str, **tags: str) -> dict[str, dg.AssetCheckEvaluation]:
    """Run the job, for some images or all; the checks by image."""
    factory = Factory(world.factory.settings, load_source(world.factory.settings), world.backends)
    checks = patched_checks([*factory.source.catalog.images.values()], MainBranch(factory))
    keys = [dg.AssetCheckKey(released_key(image), PATCHED) for image in images or IMAGES]
    job = dg.define_asset_job(SCAN_JOB, selection=dg.AssetSelection.checks(*keys), executor_def=dg.in_process_executor)
    defs = dg.Definitions(asset_checks=[checks], jobs=[job], resources={FACTORY: factory})
    done = defs.resolve_job_def(SCAN_JOB).execute_in_process(instance=instance, tags=tags)
    assert done.success
    found = {check.asset_key: check for check in done.get_asset_check_evaluations()}
    return {image: found[released_key(image)] for image in IMAGES if released_key(image) in found}


def _metadata(check: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: value.value for name, value in check.metadata.items()}


@pytest.mark.parametrize(
    ("days", "passed", "severity"),
    [
        (0, True, dg.AssetCheckSeverity.WARN),
        (19, True, dg.AssetCheckSeverity.WARN),
        (20, False, dg.AssetCheckSeverity.WARN),
        (30, False, dg.AssetCheckSeverity.WARN),
        (31, False, dg.AssetCheckSeverity.ERROR),
    ],
)
def test_the_check_turns_as_days_run_out(
    world: World, instance: dg.DagsterInstance, days: int, passed: bool, severity: dg.AssetCheckSeverity
) -> None:
    world.release("base/a", _packages(libc6="1", openssl="1"), world.base(libc6="1"))
    since = datetime.now(UTC).date() - timedelta(days=days)
    world.since = since

    check = _scan(world, instance)["base/a"]

    assert (check.passed, check.severity) == (passed, severity)
    shown = _metadata(check)
    assert shown["fix"] == "openssl 1 → 2 (CVE-2026-1)"
    assert shown["cve"] == "CVE-2026-1"
    assert shown["days_left"] == 30 - days
    assert date.fromisoformat(shown["due"]) == since + timedelta(days=30)
    assert check.description is not None
    assert check.description.startswith(f"openssl 1 → 2 (CVE-2026-1), available since {since}: ")
    assert check.description.endswith("A rebuild of base/a is to bring it.")


def test_an_image_without_missing_fixes_passes(world: World, instance: dg.DagsterInstance) -> None:
    world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))

    check = _scan(world, instance)["base/a"]

    assert (check.passed, check.description) == (True, "No missing fix is known.")


def test_a_source_that_could_not_look_is_a_warning_with_the_reason(world: World, instance: dg.DagsterInstance) -> None:
    world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))
    world.away = "the mirror does not answer"

    check = _scan(world, instance)["base/a"]

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "updates has not looked: the mirror does not answer." in str(check.description)


def test_an_image_that_production_does_not_serve_has_no_result_and_no_record(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))
    _scan(world, instance)
    world.production.tags.clear()

    assert _scan(world, instance) == {}
    assert ProductionScans(world.backends.artifacts).read_all() == {}


def test_what_is_known_of_an_image_stays_while_its_dockerfile_cannot_be_read(
    world: World, instance: dg.DagsterInstance
) -> None:
    world.release("base/a", _packages(openssl="1"), world.base(libc6="1"))
    _scan(world, instance)
    scans = ProductionScans(world.backends.artifacts)
    known = scans.read("base/a")
    write(next(world.repo.rglob("base/a/Dockerfile")), "FROM debian:12\nRUN <<EOF\nnever ends\n")

    assert _scan(world, instance) == {}
    assert known is not None
    assert scans.read("base/a") == known


def test_only_what_is_selected_is_asked_about(world: World, instance: dg.DagsterInstance) -> None:
    base = world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))
    world.release("app/b", _packages(openssl="2"), base)

    assert set(_scan(world, instance, "app/b")) == {"app/b"}
    assert set(ProductionScans(world.backends.artifacts).read_all()) == {"app/b"}


def test_a_scan_knows_whether_a_person_has_asked(world: World, instance: dg.DagsterInstance) -> None:
    world.release("base/a", _packages(openssl="2"), world.base(libc6="1"))
    scans = ProductionScans(world.backends.artifacts)

    _scan(world, instance)
    by_person = scans.read("base/a")
    _scan(world, instance, **{"dagster/sensor_name": "patches"})
    by_sensor = scans.read("base/a")

    assert by_person is not None
    assert by_sensor is not None
    assert (by_person.by_person, by_sensor.by_person) == (True, False)
