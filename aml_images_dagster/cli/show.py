"""`aml-images show IMAGE`."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from aml_images_dagster.builds.compliance.patches import ProductionScans, patch_status
from aml_images_dagster.builds.history import History
from aml_images_dagster.builds.ledger import LATEST, Ledger, released_images
from aml_images_dagster.builds.records import signer_in_words
from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.reference import Reference, short_digest
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.cli.arguments import IMAGE
from aml_images_dagster.cli.console import Facts, open_console, print_highlighted
from aml_images_dagster.cli.list_images import describe
from aml_images_dagster.cli.options import common_options, print_json
from aml_images_dagster.errors import FactoryError
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.text import counted, size_in_words
from aml_images_dagster.vulnerabilities.policy import find_policy

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aml_images_dagster.builds.artifacts import Artifacts
    from aml_images_dagster.builds.backends import Backends
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.settings import Settings

_BUILDS = 10
"""How many builds show the course of the size."""


@click.command("show")
@click.argument("image", type=IMAGE)
@common_options
def command(settings: Settings, as_json: bool, image: str) -> None:
    """Show everything about IMAGE: bases, dependents, last build, release, missing fixes, size, tests, Dockerfile."""
    tree = WorkingTree(settings.repo)
    catalog = load_catalog(settings, tree)
    found = catalog.get(image)
    folder = found.file("")
    files = sorted(path.removeprefix(folder) for path in tree.files() if path.startswith(folder))
    descendants = sorted(catalog.descendants([found.id]))
    dockerfile = found.dockerfile.text
    past = _past(settings, found.id)
    past |= {"patched": _patched(settings, found.id, past["release"])}
    if as_json:
        print_json(
            describe(found)
            | {"files": files, "descendants": descendants, "dockerfile": dockerfile}
            | past
            | {"scenarios": [scenario.model_dump(mode="json") for scenario in found.scenarios]}
        )
        return
    facts = {
        "image": found.id,
        "description": found.settings.description,
        "folder": found.path,
        "files": ", ".join(files),
        "platform": ", ".join(found.platforms),
        "built from": "\n".join((*found.parents, *found.bases)),
        "built from it": "\n".join(descendants) or "nothing",
        "published as": "\n".join(catalog.published.of(found.id)),
        "owners": ", ".join(found.settings.owners),
        "end of life": _end_of_life(found),
        "last build": _last_build(past),
        "release": _release(past),
        "patched": past["patched"]["summary"] if past["patched"] else "",
        "size": _size(past["builds"]),
        "evidence": _evidence(past["evidence"]),
        "tests": "\n".join(_scenario(s.model_dump(exclude_none=True)) for s in found.scenarios) or "not tested",
    }
    console = open_console()
    console.print(Facts((name, escape(value)) for name, value in facts.items()))
    console.print()
    print_highlighted(console, dockerfile, "dockerfile")


def _past(settings: Settings, image: str) -> dict[str, Any]:
    """What became of an image, for programs: its builds, newest first, and the release that production serves."""
    try:
        backends = backends_for(settings)
        artifacts = backends.artifacts
        withdrawn = _withdrawn(image, artifacts)
        of_it = [(folder, record) for folder, record in artifacts.builds(lambda _: None) if image in record.images]
        builds = []
        for folder, record in of_it[:_BUILDS]:
            staged = folder.read_staged(image)
            size = staged.size_bytes if staged else None
            about = {"build": record.build, "status": record.status, "created": record.created.isoformat()}
            gone = staged is not None and staged.digest in withdrawn
            builds.append(about | {"size_bytes": size, "withdrawn": gone})
        evidence = next(filter(None, (folder.read_evidence(image) for folder, _ in of_it[:_BUILDS])), None)
        attached = evidence.model_dump(mode="json") if evidence else None
    except (FactoryError, OSError) as error:  # the image is shown all the same
        return {"builds": [], "evidence": None, "release": None, "unknown": str(error)}
    try:
        return {"builds": builds, "evidence": attached, "release": _served(image, backends), "unknown": ""}
    except (FactoryError, OSError) as error:
        return {"builds": builds, "evidence": attached, "release": None, "unknown": str(error)}


def _withdrawn(image: str, artifacts: Artifacts) -> Collection[str]:
    """The digests of an image that were withdrawn; none where a record cannot be read, which is said of its release."""
    try:
        return History(Ledger(artifacts).records()).withdrawn_of(image)
    except (FactoryError, OSError):
        return ()


def _served(image: str, backends: Backends) -> dict[str, Any] | None:
    """The release that production serves as the latest of an image; None if it serves none.

    Raises:
        Unreachable: Production does not answer.
    """
    records = Ledger(backends.artifacts).records()
    if image not in released_images(records):
        return None
    history = History(records)
    repository = history.versions(image)[0].repository
    digest = backends.production.digest(Reference(backends.production.host, repository, LATEST))
    if digest is None:
        return None
    record = history.latest(repository, digest).record
    if record is None or all(change.after != digest for change in record.changes):
        return {"digest": digest, "tag": None, "build": None, "when": None, "completed": None}
    about = {"digest": digest, "tag": record.release_tag, "build": record.build}
    return about | {"when": record.when.isoformat(), "completed": record.done}


def _patched(settings: Settings, image: str, release: dict[str, Any] | None) -> dict[str, Any] | None:
    """The fixes that production lacks of an image, for programs; None if production serves none."""
    if release is None:
        return None
    scan = ProductionScans(backends_for(settings).artifacts).read(image)
    policy, _ = find_policy(WorkingTree(settings.repo))  # `validate` says what is wrong with it
    within_days = settings.vulnerabilities.patch_within_days
    status = patch_status(scan, release["digest"], policy, within_days, datetime.now(UTC))
    remedy = scan.remedy if scan and status.missing else ""
    return {
        "state": status.state,
        "days_left": status.days_left,
        "missing": [
            {
                "id": each.id,
                "package": each.package,
                "installed": each.installed,
                "fixed_in": each.fixed_in,
                "fixed_since": str(each.fixed_since),
            }
            for each in status.missing
        ],
        "asked": status.asked.isoformat() if status.asked else None,
        "not_looked": dict(status.not_looked),
        "summary": f"{status.summary} {remedy}".strip(),
    }


def _last_build(past: dict[str, Any]) -> str:
    if past["unknown"] and not past["builds"]:
        return f"not known: {past['unknown']}"
    if not past["builds"]:
        return "none"
    build = past["builds"][0]
    withdrawn = ", withdrawn" if build["withdrawn"] else ""
    return f"{build['build']} {build['status']}, {build['created'][:10]}{withdrawn}"


def _release(past: dict[str, Any]) -> str:
    release = past["release"]
    if release is None:
        return f"not known: {past['unknown']}" if past["unknown"] and past["builds"] else "none"
    if release["build"] is None:
        return f"production serves {short_digest(release['digest'])}, of which there is no record"
    incomplete = "" if release["completed"] else ", not completed"
    return f"{release['tag']}, build {release['build']}, {release['when'][:10]}{incomplete}"


def _size(builds: Sequence[dict[str, Any]]) -> str:
    """The size in the last build that has one, and how it came there; what stays the same is said once."""
    sizes = [size_in_words(build["size_bytes"]) for build in reversed(builds) if build["size_bytes"] is not None]
    course = [size for size, _ in groupby(sizes)]
    return course[-1] + (f" ({' → '.join(course)})" if len(course) > 1 else "") if course else ""


def _evidence(evidence: dict[str, Any] | None) -> str:
    """What is attached to the newest image that has something, in a line."""
    if evidence is None:
        return "none"
    kinds = ", ".join(dict.fromkeys(each["name"] or each["kind"] for each in evidence["artifacts"]))
    signer = signer_in_words(evidence["signed_by"], is_test_key=evidence["is_test_key"])
    return (
        f"{counted(evidence['packages'], 'package')}, {evidence['without_licence']} without a licence; {kinds}; "
        f"signed by {signer}; build {evidence['attached_in']}"
    )


def _end_of_life(image: Image) -> str:
    if image.is_past_end_of_life(datetime.now(UTC).date()):
        return f"{image.settings.eol}: built only if named"
    return str(image.settings.eol or "")


def _scenario(scenario: dict[str, object]) -> str:
    rest = ", ".join(f"{key} {value}" for key, value in scenario.items() if key != "name")
    return f"{scenario['name']}: {rest}"
