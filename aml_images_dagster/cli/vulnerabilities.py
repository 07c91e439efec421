"""`aml-images vulnerabilities IMAGE|REFERENCE`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.builds.versions.image_lookup import find_image
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import Facts, new_table, open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.trust.layer_records import LayerRecords
from aml_images_dagster.vulnerabilities.policy import POLICY_FILE, WITHOUT_POLICY, assess, read_policy
from aml_images_dagster.vulnerabilities.reports import SOURCES_OF_REPORTS, read_report
from aml_images_dagster.vulnerabilities.scanning import of_all_platforms, scan

if TYPE_CHECKING:
    from aml_images_dagster.builds.versions.image_lookup import FoundImage
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.vulnerabilities.policy import Assessment
    from aml_images_dagster.vulnerabilities.vulnerability import Scan

_COLOURS = {"not allowed": "red", "of the base": "red", "in grace": "yellow", "excepted": "yellow"}


@click.command("vulnerabilities")
@click.argument("image", metavar="IMAGE|REFERENCE", type=IMAGE)
@click.option(
    "--report",
    "reports",
    metavar="SOURCE=FILE",
    multiple=True,
    help=f"Read what a scanner has found from its report ({', '.join(SOURCES_OF_REPORTS)}). Repeatable.",
)
@click.option("--platform", metavar="OS/ARCH", help="Only this platform of an image of several.")
@common_options
def command(settings: Settings, as_json: bool, image: str, reports: tuple[str, ...], platform: str | None) -> None:
    """Show the known vulnerabilities of an image, who has looked for them, and what policy.yaml says; licences, too.

    IMAGE is the newest one in staging, else the last one that was released. REFERENCE is any image in a registry, with
    the registry's host: docker.io/library/debian:12. Without policy.yaml nothing is forbidden.

    Exit codes: 0 allowed, 1 not allowed, or nobody could look, 2 there is no such image, or an input is wrong.
    """
    policy = read_policy(WorkingTree(settings.repo))
    read = _reports(reports)
    found = find_image(settings, backends_for(settings), image)
    records = LayerRecords(settings.layer_records)
    inventories = {
        one: read_inventory(found.registry, one, records, found.contents) for one in found.platforms(platform).values()
    }
    asked = of_all_platforms(each for one, inventory in inventories.items() for each in scan(inventory, one, settings))
    scans = (*(each for each in asked if each.source not in read), *read.values())
    packages = [package for inventory in inventories.values() for package in inventory.packages]
    assessment = assess(scans, policy or WITHOUT_POLICY, found.name, datetime.now(UTC).date(), packages=packages)
    is_allowed = bool(assessment.looked) and (assessment.passed or policy is None or policy.action == "report")
    if as_json:
        print_json(_document(found, scans, assessment, is_allowed=is_allowed))
    else:
        _show(found, assessment, has_policy=policy is not None, is_allowed=is_allowed)
    sys.exit(0 if is_allowed else 1)


def _reports(named: tuple[str, ...]) -> dict[str, Scan]:
    read = {}
    for each in named:
        source, _, file = each.partition("=")
        if source not in SOURCES_OF_REPORTS or not file:
            raise BadInput(
                "not a source and a file", where=f"--report {each}", hint=f"Write {SOURCES_OF_REPORTS[0]}=FILE."
            )
        try:
            content = Path(file).read_bytes()
        except OSError as error:
            raise BadInput(
                f"the report cannot be read: {error.strerror}", where=file, hint="Is the path right?"
            ) from None
        read[source] = read_report(source, content, file)
    return read


def _show(found: FoundImage, assessment: Assessment, *, has_policy: bool, is_allowed: bool) -> None:
    console = open_console()
    table = new_table("vulnerability", "package", "installed", "fixed in", "since", "severity", "source", "policy")
    for each, verdict in assessment.verdicts.items():
        colour = _COLOURS.get(verdict) if has_policy else None
        table.add_row(
            escape(each.id),
            escape(each.package),
            escape(each.installed),
            escape(each.fixed_in) or "[dim]not yet[/]",
            str(each.fixed_since or ""),
            each.severity,
            escape(each.source),
            f"[{colour}]{verdict}[/]" if colour else verdict if has_policy else "",
        )
    if assessment.verdicts:
        console.print(table)
        console.print()
    facts = {
        "image": found.titled,
        "reference": str(found.reference),
        "looked": ", ".join(assessment.looked) or "nobody",
        "not looked": "\n".join(f"{source}: {why}" for source, why in assessment.not_looked.items()),
        "required": ", ".join(assessment.missing_sources),
        "exceptions": "\n".join(assessment.remarks),
        "policy": POLICY_FILE if has_policy else f"none: there is no {POLICY_FILE}",
    }
    console.print(Facts((fact, escape(value)) for fact, value in facts.items() if value))
    console.print()
    if has_policy:
        console.print(assessment.summary, markup=False)
        console.print("Allowed." if is_allowed else "[bold red]Not allowed.[/]")
    else:
        console.print(f"{len(assessment.verdicts)} found." if assessment.looked else "[bold red]Nobody has looked.[/]")


def _document(
    found: FoundImage, scans: tuple[Scan, ...], assessment: Assessment, *, is_allowed: bool
) -> dict[str, Any]:
    reasons = dict(assessment.excepted)
    return {
        "image": found.name,
        "reference": str(found.reference),
        "withdrawn": found.is_withdrawn,
        "allowed": is_allowed,
        "sources": [{"source": each.source, "looked": each.has_looked, "detail": each.detail} for each in scans],
        "missing_sources": list(assessment.missing_sources),
        "vulnerabilities": [
            asdict(each)
            | {
                "fixed_since": each.fixed_since.isoformat() if each.fixed_since else None,
                "verdict": verdict,
                "exception": reasons[each].model_dump(mode="json") if each in reasons else None,
            }
            for each, verdict in assessment.verdicts.items()
        ],
        "remarks": list(assessment.remarks),
    }
