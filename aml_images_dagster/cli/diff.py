"""`aml-images diff IMAGE [FROM] [TO]`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.builds.versions.difference_markdown import PACKAGE_TYPES, as_markdown, named
from aml_images_dagster.builds.versions.image_difference import ImageComparison, package_rows, vulnerabilities_in_words
from aml_images_dagster.builds.versions.image_versions import ImageVersions
from aml_images_dagster.catalog.reference import short_digest
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import Facts, new_table, open_console, print_highlighted
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import counted, size_in_words

if TYPE_CHECKING:
    from rich.console import Console

    from aml_images_dagster.builds.versions.image_difference import ImageDifference, PlatformDifference
    from aml_images_dagster.builds.versions.image_versions import ImageVersion
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.vulnerabilities.vulnerability import VulnerabilityChanges


@click.command("diff")
@click.argument("image", type=IMAGE)
@click.argument("older", metavar="[FROM]", required=False)
@click.argument("newer", metavar="[TO]", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "markdown", "json"]),
    default="table",
    show_default=True,
    help="Format of the output.",
)
@common_options
def command(settings: Settings, as_json: bool, image: str, older: str | None, newer: str | None, form: str) -> None:
    """Show what changed between two versions of an image: packages, vulnerabilities, layers, bases, commits.

    FROM and TO are release tags, builds (the start of the number is enough), digests, or latest. Without FROM it is
    what production serves as :latest; without TO it is the newest image in staging. Nothing is run or pulled.
    """
    catalog = load_catalog(settings, WorkingTree(settings.repo))
    found = catalog.get(image)
    repository = settings.production_names.format(name=found.name, family=found.family)
    versions = ImageVersions(found.id, repository, backends_for(settings))
    was = versions.find(older) if older else versions.latest()
    now = versions.find(newer) if newer else versions.newest()
    difference = ImageComparison(settings).compare(found.id, was, now, scanned=True)
    if as_json or form == "json":
        print_json(difference.document() | {"withdrawn": [each.name for each in (was, now) if each.is_withdrawn]})
        return
    shown = replace(difference, older=_named(was), newer=_named(now))
    if form == "markdown":
        click.echo(as_markdown(shown), nl=False)
    else:
        _show(open_console(), shown)


def _named(version: ImageVersion) -> str:
    return f"{version.name}, withdrawn" if version.is_withdrawn else version.name


def _show(console: Console, difference: ImageDifference) -> None:
    console.print(f"{difference.image}: {escape(difference.older)} → {escape(difference.newer)}")
    for change in difference.major:
        console.print(f"[bold yellow]may break users[/]: {escape(str(change))}")
    for platform in difference.platforms:
        if len(difference.platforms) > 1:
            console.print(f"\n[bold]{platform.platform}[/]")
        _show_packages(console, platform)
        _show_layers(console, platform)
    if difference.vulnerabilities:
        _show_vulnerabilities(console, difference.vulnerabilities)
    if difference.bases:
        bases = new_table("base", "before", "now")
        for base in difference.bases:
            before, after = (short_digest(digest) or "-" for digest in (base.before, base.after))
            bases.add_row(escape(base.reference), before, after)
        console.print()
        console.print(bases)
    if difference.commits:
        console.print()
        console.print("[bold]commits[/]")
        console.print(
            Facts((f"{commit.name[:12]} {commit.date}", escape(commit.subject)) for commit in difference.commits)
        )
    if difference.dockerfile:
        console.print()
        print_highlighted(console, difference.dockerfile, "diff")
    for remark in difference.remarks:
        console.print(f"[yellow]{escape(remark)}[/]")


def _show_vulnerabilities(console: Console, found: VulnerabilityChanges) -> None:
    console.print(f"\n{escape(vulnerabilities_in_words(found))}")
    table = new_table("vulnerability", "package", "installed", "fixed in", "severity", "")
    for several, said in ((found.fixed, "[green]fixed[/]"), (found.new, "[red]new[/]")):
        for each in several:
            row = (each.id, each.package, each.installed, each.fixed_in)
            table.add_row(*map(escape, row), each.severity, said)
    if found.fixed or found.new:
        console.print(table)


def _show_packages(console: Console, platform: PlatformDifference) -> None:
    if not platform.packages:
        console.print("The same packages in the same versions.")
    for kind, rows in package_rows(platform.packages).items():
        table = new_table(PACKAGE_TYPES.get(kind, kind), "before", "now", "")
        for row in rows:
            what = "" if row.before and row.after else "[green]added[/]" if row.after else "[red]removed[/]"
            table.add_row(escape(named(row)), escape(row.before) or "-", escape(row.after) or "-", what)
        console.print()
        console.print(table)


def _show_layers(console: Console, platform: PlatformDifference) -> None:
    new = [layer for layer in platform.layers if layer.is_new]
    console.print(
        f"\nSize {size_in_words(platform.before_bytes)} → {size_in_words(platform.after_bytes)}: {len(new)} of "
        f"{counted(len(platform.layers), 'layer')} new, {size_in_words(platform.new_bytes)}"
    )
    console.print(Facts((size_in_words(layer.size_bytes), escape(layer.created_by or layer.digest)) for layer in new))
