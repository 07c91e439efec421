"""The check `patched` of what production serves of an image: its run asks the sources, and keeps what they say."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from aml_images_dagster.builds.compliance.patch_scan import ProductionScanner
from aml_images_dagster.builds.compliance.patches import (
    PatchStatus,
    ProductionScan,
    ProductionScans,
    fixes_in_words,
    patch_status,
)
from aml_images_dagster.catalog.image import Image
from aml_images_dagster.defs.keys import PATCHED, released_key
from aml_images_dagster.defs.main_branch import MainBranch
from aml_images_dagster.defs.run import Factory, explained, step_log
from aml_images_dagster.vulnerabilities.policy import read_policy

_MOST_SHOWN = 50
"""Fixes that the page of a check lists."""


def patched_checks(images: Sequence[Image], main: MainBranch) -> dg.AssetChecksDefinition:
    """One step that asks about all images of which the check is selected."""
    by_key = {released_key(image.id): image.id for image in images}

    @dg.multi_asset_check(
        name=PATCHED,
        specs=[
            dg.AssetCheckSpec(
                PATCHED,
                asset=key,
                description="Production serves every fix in time (vulnerabilities.patch_within_days).",
            )
            for key in by_key
        ],
        can_subset=True,
    )
    def scan_production(
        context: dg.AssetCheckExecutionContext, factory: dg.ResourceParam[Factory]
    ) -> Iterator[dg.AssetCheckResult]:
        with explained():
            source, settings = main.images().source, factory.settings
            scanner, scans = (
                ProductionScanner(source, factory.backends, settings),
                ProductionScans(factory.backends.artifacts),
            )
            policy = read_policy(source.tree)
            by_person = "dagster/sensor_name" not in context.run.tags
            within_days = settings.vulnerabilities.patch_within_days
            for key in sorted(context.selected_asset_check_keys):
                name = by_key[key.asset_key]
                image = source.catalog.images.get(name)
                if image and image.parsed is None:
                    step_log(f"{name}: its Dockerfile cannot be read, so what was known of it stays")
                    continue
                found = scanner.scan(image, scans.read(name), datetime.now(UTC)) if image else None
                if found is None:
                    scans.remove(name)
                    continue
                found = found.model_copy(update={"by_person": by_person})
                scans.write(found)
                result = patched_result(
                    found, patch_status(found, found.digest, policy, within_days, found.asked), within_days
                )
                step_log(f"{name}: {result.description}")
                yield result

    return scan_production


def patched_result(scan: ProductionScan, status: PatchStatus, within_days: int) -> dg.AssetCheckResult:
    """A fix that is due soon is a warning, an overdue one an error. What nobody knows has not passed either."""
    metadata: dict[str, Any] = {"digest": scan.digest, "asked": dg.MetadataValue.timestamp(scan.asked)}
    if status.oldest and status.oldest.fixed_since and status.days_left is not None:
        rows = [
            dg.TableRecord(
                {
                    "fix": f"{each.package} {each.installed} → {each.fixed_in}",
                    "vulnerability": each.id,
                    "available since": str(each.fixed_since),
                    "severity": each.severity,
                    "source": each.source,
                }
            )
            for each in status.missing[:_MOST_SHOWN]
        ]
        metadata |= {
            "fix": fixes_in_words([status.oldest])[0],
            "cve": status.oldest.id,
            "available_since": str(status.oldest.fixed_since),
            "days_left": status.days_left,
            "due": str(status.oldest.fixed_since + timedelta(days=within_days)),
            "missing": dg.MetadataValue.table(rows),
        }
    return dg.AssetCheckResult(
        asset_key=released_key(scan.image),
        check_name=PATCHED,
        passed=status.state in ("patched", "missing"),
        severity=dg.AssetCheckSeverity.ERROR if status.state == "overdue" else dg.AssetCheckSeverity.WARN,
        description=f"{status.summary} {scan.remedy if status.missing else ''}".strip(),
        metadata=metadata,
    )
