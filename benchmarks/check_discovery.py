"""Compare discovery with a simple reading of git, over the real history of any repository.

    python benchmarks/check_discovery.py REPO --docker-files-path images --published-as 'quay.io/jupyter/{name}'

Every commit on the first-parent line is discovered against its first parent. What is modified, added and removed
must be what `git diff --name-only` and two `git ls-tree` say. Prints a count and every mismatch; exit code 1 if there
is one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.tree import CommitTree

Expectation = dict[str, set[str]]


def git(repository: Path, *arguments: str) -> list[str]:
    """The NUL-separated output of a git command."""
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")[:-1]


def image_folders(repository: Path, commit: str, roots: list[str]) -> set[str]:
    """Folders with a Dockerfile below the roots, at a commit."""
    names = git(repository, "ls-tree", "-r", "-z", "--name-only", commit)
    folders = {name.removesuffix("/Dockerfile") for name in names if name.endswith("/Dockerfile")}
    return {folder for folder in folders for root in roots if f"{folder}/".startswith(f"{root}/")}


def expected(repository: Path, base: str, head: str, roots: list[str]) -> Expectation:
    """What a person finds who looks at the two lists."""
    before, after = image_folders(repository, base, roots), image_folders(repository, head, roots)
    touched = set()
    for path in git(repository, "diff", "--no-renames", "-z", "--name-only", base, head):
        above = [folder for folder in after if path.startswith(f"{folder}/")]
        if above:
            touched.add(max(above, key=len))
    return {"modified": touched & before, "added": touched - before, "removed": before - after}


def found(repository: Path, base: str, head: str, options: argparse.Namespace) -> Expectation | None:
    """What discovery says; None when the commit has none of the folders."""
    tree = CommitTree(repository, head)
    if not any(path.startswith(f"{root}/") for path in tree.files() for root in options.docker_files_path.split(";")):
        return None
    catalog = Catalog.load(tree, options.docker_files_path, options.published_as)
    discovery = discover(tree, catalog, base)
    by_change = {
        change: {image.path for image in discovery.images if image.change == change} for change in ("modified", "added")
    }
    return {**by_change, "removed": {image.path for image in discovery.removed}}


def main() -> int:
    """Check every commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("repository", type=Path)
    parser.add_argument("--docker-files-path", default="base_images/docker/public")
    parser.add_argument("--published-as", action="append")
    parser.add_argument("--commits", type=int, default=200)
    options = parser.parse_args()
    options.published_as = options.published_as or ["mcr.microsoft.com/azureml/{name}"]
    roots = options.docker_files_path.split(";")

    log = ["log", "-z", "--first-parent", "--format=%H %P", f"-{options.commits}"]
    commits = [line.split() for line in git(options.repository, *log, "HEAD")]
    pairs = [(parents[0], commit) for commit, *parents in commits if parents]
    totals = dict.fromkeys(("modified", "added", "removed"), 0)
    checked = mismatches = 0
    for base, head in pairs:
        actual = found(options.repository, base, head, options)
        if actual is None:
            continue
        checked += 1
        wanted = expected(options.repository, base, head, roots)
        for change, folders in wanted.items():
            totals[change] += len(folders)
        if actual != wanted:
            mismatches += 1
            print(f"{head[:12]}: expected {wanted}, found {actual}")
    counts = ", ".join(f"{count} {change}" for change, count in totals.items())
    print(f"{checked} commits checked: {counts}; {mismatches} mismatches")
    return 1 if mismatches or not checked else 0


if __name__ == "__main__":
    sys.exit(main())
