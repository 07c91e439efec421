"""Asks all sources that the settings name about one image: apt, and scanners on PATH (Trivy and Grype).

Sources: https://trivy.dev/latest/docs/references/configuration/cli/trivy_image/,
https://github.com/anchore/grype#getting-started.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING

from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.text import printable_line
from aml_images_dagster.trust.inventory import read_inventory
from aml_images_dagster.vulnerabilities.apt_updates import SOURCE, AptUpdates, Distribution
from aml_images_dagster.vulnerabilities.reports import read_report
from aml_images_dagster.vulnerabilities.vulnerability import Scan

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from aml_images_dagster.catalog.image_file import Content
    from aml_images_dagster.catalog.reference import Reference
    from aml_images_dagster.registry.interface import Registry
    from aml_images_dagster.settings import Settings
    from aml_images_dagster.trust.inventory import Inventory
    from aml_images_dagster.trust.layer_records import LayerRecords

_ARCHITECTURES = {
    "386": "i386",
    "arm/v5": "armel",
    "arm/v6": "armel",
    "arm/v7": "armhf",
    "arm": "armhf",
    "ppc64le": "ppc64el",
}
"""Names of Debian for architectures that OCI names otherwise."""
_TIMEOUT_SECONDS = 1800
_LONGEST_REASON = 300
_COMMANDS = {
    "trivy": ("trivy", "image", "--quiet", "--format", "json", "--scanners", "vuln", "--image-src", "remote", "{}"),
    "grype": ("grype", "registry:{}", "--quiet", "--output", "json"),
}


def scan(inventory: Inventory, reference: Reference, settings: Settings) -> tuple[Scan, ...]:
    """Ask every source about an image of one platform.

    Args:
        inventory: What is in it.
        reference: The image, by digest, for scanners that read it themselves.
        settings: Which sources are asked, and where they look.

    Returns:
        One for each source, also for one that could not look.
    """
    mirrors = {str(archive): url for archive, url in settings.vulnerabilities.apt_mirrors.items()}
    updates = AptUpdates(settings.apt_lists, mirrors, settings.vulnerabilities.apt_keyring)
    return tuple(
        updates.scan(_distribution(inventory), inventory.packages)
        if source == SOURCE
        else run_scanner(source, str(reference))
        for source in settings.vulnerabilities.sources
    )


def scan_image(
    registry: Registry,
    reference: Reference,
    records: LayerRecords,
    settings: Settings,
    contents: Sequence[Content] = (),
) -> tuple[Scan, ...]:
    """Ask every source about an image, of one platform or of several.

    Args:
        registry: Where it is.
        reference: The image, by digest.
        records: Records of layers that were read before.
        settings: Which sources are asked, and where they look.
        contents: What image.json declares to be in it.

    Raises:
        BadInput: There is no such image.
        Unreachable: The registry does not answer.
    """
    return of_all_platforms(
        each
        for image in images_of(registry, reference).values()
        for each in scan(read_inventory(registry, image, records, contents), image, settings)
    )


def of_all_platforms(scans: Iterable[Scan]) -> tuple[Scan, ...]:
    """What sources say of several platforms, as if these were one image: who has not looked at one has not looked."""
    by_source: dict[str, list[Scan]] = {}
    for each in scans:
        by_source.setdefault(each.source, []).append(each)
    return tuple(map(_together, by_source.values()))


def _together(scans: list[Scan]) -> Scan:
    missing = next((each for each in scans if not each.has_looked), None)
    return missing or Scan(
        scans[0].source,
        tuple(dict.fromkeys(found for each in scans for found in each.vulnerabilities or ())),
        scans[0].detail,
    )


def _distribution(inventory: Inventory) -> Distribution | None:
    facts = inventory.distribution
    architecture = inventory.platform.partition("/")[2]
    if not facts.get("ID"):
        return None
    return Distribution(facts["ID"], facts.get("VERSION_CODENAME", ""), _ARCHITECTURES.get(architecture, architecture))


def run_scanner(name: str, reference: str) -> Scan:
    """Let a scanner look into an image.

    Args:
        name: trivy or grype.
        reference: The image, by digest.

    Returns:
        What it has found. A scan that has not looked, with the reason, where the scanner is missing, fails or prints
        something else than its report.
    """
    if shutil.which(name) is None:
        return Scan(name, None, f"there is no {name} on PATH")
    command = [part.format(reference) for part in _COMMANDS[name]]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "NO_COLOR": "1"},
        )
    except subprocess.TimeoutExpired:
        return Scan(name, None, f"it did not end within {_TIMEOUT_SECONDS // 60} minutes", failed=True)
    except OSError as error:
        return Scan(name, None, f"it cannot be started: {error.strerror}", failed=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        reason = printable_line(said[-1] if said else f"exit code {done.returncode}")
        return Scan(name, None, f"it failed: {reason[:_LONGEST_REASON]}", failed=True)
    try:
        return read_report(name, done.stdout, f"what {name} has printed")
    except BadInput as error:
        return Scan(name, None, error.what, failed=True)
