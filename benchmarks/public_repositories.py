"""What `aml-images validate` says of public repositories: images, passed, and refused by cause, as a table.

    python benchmarks/public_repositories.py FOLDER [--findings]

FOLDER has a clone of each repository, under its own name: `git clone https://github.com/OWNER/NAME FOLDER/OWNER/NAME`.
The settings are those of docs/repositories.md.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

from aml_images_dagster.builds.source import load_catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.settings import load_settings

GUIDE = Path(__file__).parents[1] / "docs" / "repositories.md"
_SECTION = re.compile(r"^### (?P<repository>[\w.-]+/[\w.-]+)\n.*?```toml\n(?P<toml>.*?)```", re.MULTILINE | re.DOTALL)
_CAUSES = {
    r"which builds the image, does not know": "needs another builder",
    r"same family and name": "two Dockerfiles, one name",
    r"nothing of this name in the build context": "copied file missing",
    r"does not fit a registry": "name of the folder",
    r"same name|same group": "names clash",
    r"names no image|no value": "ARG without a value",
    r"not an image reference": "no image reference",
    r"unknown instruction": "unknown instruction",
}


def configurations() -> dict[str, dict[str, object]]:
    """The settings of every repository, as the guide has them."""
    return {
        match["repository"]: tomllib.loads(match["toml"])["tool"]["aml-images"]
        for match in _SECTION.finditer(GUIDE.read_text("utf-8"))
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--findings", action="store_true", help="Print every error, too.")
    options = parser.parse_args()
    print("| repository | commit | images | passed | refused by cause | seconds |")
    print("|---|---|---|---|---|---|")
    totals = [0, 0]
    errors = []
    for name, table in configurations().items():
        repo = options.folder / name
        given = {
            key.replace("-", "_"): tuple(value) if isinstance(value, list) else value for key, value in table.items()
        }
        settings = load_settings(repo=repo, **given)
        started = os.times()
        tree = WorkingTree(repo)
        catalog = load_catalog(settings, tree)
        findings = [each for each in validate(catalog, tree, publishes=False) if each.severity == "error"]
        ended = os.times()
        causes = defaultdict(set)
        for finding in findings:
            cause = next((said for pattern, said in _CAUSES.items() if re.search(pattern, finding.message)), "other")
            causes[cause].add((finding.image, finding.path))
        refused = {finding.image for finding in findings}
        images = len(catalog.every_image())
        passed = images - sum(image.id in refused for image in catalog.every_image())
        commit = subprocess.run(
            ["git", "-C", str(repo), "log", "-1", "--format=%h"], capture_output=True, text=True, check=True
        )
        told = ", ".join(f"{cause} {len(which)}" for cause, which in causes.items())
        seconds = sum(ended[:4]) - sum(started[:4])
        print(f"| {name} | {commit.stdout.strip()} | {images} | {passed} | {told} | {seconds:.1f} |")
        totals = [totals[0] + images, totals[1] + passed]
        errors += [f"{name}: {finding}" for finding in findings]
    print(f"| all | | {totals[0]} | {totals[1]} | | |")
    if options.findings:
        print("\n".join(errors))


if __name__ == "__main__":
    main()
