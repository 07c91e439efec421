"""`aml-images validate`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.planning.preflight import features_of
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import open_console
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.notifications.channels import Channels, find_unset
from aml_images_dagster.notifications.rules import find_rules
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.schedules import read_timetable
from aml_images_dagster.text import counted
from aml_images_dagster.vulnerabilities.policy import find_policy

if TYPE_CHECKING:
    from aml_images_dagster.settings import Settings


@click.command("validate")
@click.argument("images", nargs=-1, metavar="[IMAGE...]", type=IMAGE)
@common_options
def command(settings: Settings, as_json: bool, images: tuple[str, ...]) -> None:
    """Check image folders and show all findings at once.

    Without IMAGE: all folders, the files of schedules/, notifications.yaml and policy.yaml.

    Exit codes: 0 no error (there may be warnings), 2 an error.
    """
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    if not catalog.images:
        raise catalog.layout.nothing_found(tree.files(), tree.root)
    names = [catalog.get(image).id for image in images] or list(catalog.images)
    findings = validate(
        catalog,
        tree,
        names,
        publishes=bool(settings.open_source.repository),
        frontends=settings.frontends,
        features_of=lambda os: features_of(backends_for(settings))(os),
    )
    if not images:
        rules, of_rules = find_rules(tree)
        unset = find_unset(rules.channels, Channels.of(settings.repo)) if rules else []
        findings += [*read_timetable(tree, catalog).findings, *of_rules, *unset, *find_policy(tree)[1]]
    if as_json:
        print_json({"findings": [finding.document() for finding in findings]})
    else:
        console = open_console()
        for finding in findings:
            colour = "red" if finding.severity == "error" else "yellow"
            place = finding.path if finding.line is None else f"{finding.path}:{finding.line}"
            image = f"[bold]{escape(finding.image)}[/] " if finding.image else ""
            console.print(f"[{colour}]{finding.severity}[/] {image}{escape(place)}")
            console.print(f"    {finding.message}", markup=False)
        errors = sum(finding.severity == "error" for finding in findings)
        warnings = len(findings) - errors
        console.print(f"{counted(len(names), 'image')}: {counted(errors, 'error')}, {counted(warnings, 'warning')}")
        unmatched = catalog.layout.unmatched(tree.files(), tree.root)
        if unmatched and not images:
            others = f"{counted(len(unmatched), 'Dockerfile')} no pattern of image-paths fits, e.g. {unmatched[0]}"
            console.print(f"[dim]Not looked at: {escape(others)}.[/]")
    if any(finding.severity == "error" for finding in findings):
        sys.exit(2)
