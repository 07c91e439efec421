"""Import the images of a drop into the production registry, by the digest that was tested.

The order and the checks are those of every release, because `aml-images release` calls `import_all` of this very file.
It needs only Python's standard library, and as a program the Azure command line, because it travels in the drop to
where the rest of the package is not installed.

Environment of the program: PRODUCTION_REGISTRY (name of the registry), STAGING_REGISTRY_ID (its Azure resource id: the
caller's own identity pulls from it, so no password is needed).
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

AT_ONCE = 4
LATEST = ":latest"


class ImportRefused(Exception):  # noqa: N818
    """Production has, or serves after an import, something else than what was tested."""


@dataclass(frozen=True)
class Tested:
    """An image to import.

    Attributes:
        source: Repository in staging.
        digest: What was tested.
        names: Names in production, each a repository and a tag.
    """

    source: str
    digest: str
    names: Sequence[str]


class Production(Protocol):
    """The production registry."""

    def digest(self, name: str) -> str | None:
        """What a name stands for; None when there is no such name."""

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        """Import an image by digest; a name that stands for something else is moved only where `replace` says so."""


def import_all(
    images: Sequence[Tested],
    production: Production,
    tell: Callable[[str], None],
    may_move: Callable[[], None] = lambda: None,
) -> None:
    """Import release tags, verify them all, and only then move every `latest`.

    What is there already is left alone, so that an import that broke off can be repeated.

    Args:
        images: What to import.
        production: Where.
        tell: Is told what was done, a line each, from several threads.
        may_move: Is called before any `latest` moves, and raises if it must not.

    Raises:
        ImportRefused: A release tag stands for something else, or production serves something else after an import.
    """
    tags = [(image, name) for image in images for name in image.names]
    releases = [(image, name) for image, name in tags if not name.endswith(LATEST)]
    latest = [(image, name) for image, name in tags if name.endswith(LATEST)]
    taken = [
        f"{name} stands for {served}, not for {image.digest}"
        for image, name in releases
        if (served := production.digest(name)) not in (None, image.digest)
    ]
    if taken:
        raise ImportRefused("; ".join(taken))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: _import_one(one[0], one[1], production, tell, replace=False), releases))
    for image, name in releases:
        _verify(image, name, production)
    for image, name in latest:
        may_move()
        _import_one(image, name, production, tell, replace=True)


def _import_one(
    image: Tested, name: str, production: Production, tell: Callable[[str], None], *, replace: bool
) -> None:
    if production.digest(name) == image.digest:
        tell(f"{name} has {image.digest} already")
        return
    production.bring(image, name, replace=replace)
    _verify(image, name, production)
    tell(f"{name} is {image.digest}")


def _verify(image: Tested, name: str, production: Production) -> None:
    served = production.digest(name)
    if served != image.digest:
        raise ImportRefused(f"{name} serves {served or 'nothing'} after the import, not {image.digest}")


class _AzureProduction:
    """An Azure Container Registry, by way of `az`."""

    def __init__(self, registry: str, staging_id: str) -> None:
        self._registry = registry
        self._staging_id = staging_id

    def digest(self, name: str) -> str | None:
        command = ["az", "acr", "manifest", "show-metadata", "--registry", self._registry, "--name", name]
        done = subprocess.run([*command, "--query", "digest", "--output", "tsv"], check=False, capture_output=True)
        return done.stdout.decode().strip() if done.returncode == 0 else None

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        command = ["az", "acr", "import", "--name", self._registry, "--registry", self._staging_id]
        command += ["--source", f"{image.source}@{image.digest}", "--image", name]
        done = subprocess.run(command + (["--force"] if replace else []), check=False)
        if done.returncode:
            raise ImportRefused(f"import of {name} failed; run the rollout again, what is done stays done")


def read_drop(here: Path) -> list[Tested]:
    """What import.cfg names, with the digests of release.json.

    Raises:
        SystemExit: They are damaged, or disagree.
    """
    try:
        entries = json.loads((here / "import.cfg").read_text("utf-8"))
        images = json.loads((here / "release.json").read_text("utf-8"))["images"]
        digests = {image["staging"]["reference"]: image["staging"]["digest"] for image in images}
        wanted = [(entry["source"]["imageName"], entry["destination"]["imageNames"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"import.cfg and release.json cannot be read ({error!r}): the drop is damaged")
    for reference, _ in wanted:
        if reference not in digests:
            sys.exit(f"import.cfg names {reference}, which is not in release.json: the drop is damaged")
    return [
        Tested(reference.partition("/")[2].rpartition(":")[0], digests[reference], names) for reference, names in wanted
    ]


def _variable(name: str) -> str:
    """A variable that the release system has to set."""
    return os.environ.get(name) or sys.exit(f"{name} is not set; ScopeBindings.json names what has to be")


def main() -> None:
    """Import the drop that this file lies in; ends with a message at the first import that fails."""
    production = _AzureProduction(_variable("PRODUCTION_REGISTRY"), _variable("STAGING_REGISTRY_ID"))
    images = read_drop(Path(__file__).resolve().parent)
    try:
        import_all(images, production, lambda line: print(line, flush=True))
    except ImportRefused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
