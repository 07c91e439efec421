"""Import the images of a drop into the production registry, by the digest that was tested.

The order is that of every release, because `aml-images release` calls `import_all` of this module. It needs only
Python's standard library, and as a program the Azure command line, because it travels in the drop to where the rest of
the package is not installed. There is no ledger there: as a program it checks the tags of production only.

Environment of the program: PRODUCTION_REGISTRY (name of the registry), STAGING_REGISTRY_ID (its Azure resource id: the
caller's own identity pulls from it, so no password is needed).
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

AT_ONCE = 4
ASK_SECONDS = 120
IMPORT_SECONDS = 3600
LATEST = ":latest"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NUMBERED = re.compile(r"(\d{8})\.v(\d+)")
# What the registry answers of a tag, a digest or a repository that it does not have, as `az` passes it on. Not of a
# registry that is not there: that one "was not found" or "could not be found".
_NO_SUCH_NAME = re.compile(
    r"\b(MANIFEST|NAME|TAG)_UNKNOWN\b|\bis not found\b|not known to registry|(tag|data) does not exist"
)


class ImportRefused(Exception):  # noqa: N818
    """Production has, or serves after an import, something else than what was tested."""


@dataclass(frozen=True)
class Tested:
    """An image to import.

    Attributes:
        source: Repository in staging.
        digest: What was tested.
        names: Names in production, each a repository and a tag.
        evidence: Digests of what is attached to it, each before what is attached to that.
    """

    source: str
    digest: str
    names: Sequence[str]
    evidence: Sequence[str] = ()

    @property
    def repositories(self) -> Sequence[str]:
        """Where its names are in production."""
        return sorted({name.rpartition(":")[0] for name in self.names})


class Production(Protocol):
    """The production registry."""

    def digest(self, name: str) -> str | None:
        """What a name points to; None when there is no such name."""

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        """Import an image by digest; a name that points to something else is moved only where `replace` says so."""

    def bring_evidence(self, image: Tested, repository: str) -> None:
        """Import what is attached to an image, and make sure that it is there."""


def import_all(
    images: Sequence[Tested],
    production: Production,
    report: Callable[[str], None],
    may_move: Callable[[], None] = lambda: None,
) -> None:
    """Import release tags with all evidence, verify them all, and only then move every `latest`.

    Existing tags with the right digest are skipped, so that an incomplete import can be repeated.

    Args:
        images: What to import.
        production: Where.
        report: Called with what was done, a line each, from several threads.
        may_move: Is called before any `latest` moves, and raises if it must not.

    Raises:
        ImportRefused: A release tag points to something else, or production serves something else after an import.
    """
    tags = [(image, name) for image in images for name in image.names]
    releases = [(image, name) for image, name in tags if not name.endswith(LATEST)]
    latest = [(image, name) for image, name in tags if name.endswith(LATEST)]
    taken = [
        f"{name} points to {served}, not to {image.digest}"
        for image, name in releases
        if (served := production.digest(name)) not in (None, image.digest)
    ]
    if taken:
        raise ImportRefused("; ".join(taken))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            list(pool.map(lambda one: _import_one(one[0], one[1], production, report, replace=False), releases))
        except KeyboardInterrupt:  # the pool ends what it has begun, and begins nothing more
            report("interrupted: imports that have begun are completed first")
            raise
    for image, name in releases:
        _verify(image, name, production)
    attached = [(image, repository) for image in images for repository in image.repositories]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda one: production.bring_evidence(*one), attached))
    for image, name in latest:
        may_move()
        _import_one(image, name, production, report, replace=True)


def _import_one(
    image: Tested, name: str, production: Production, report: Callable[[str], None], *, replace: bool
) -> None:
    if production.digest(name) == image.digest:
        report(f"{name} has {image.digest} already")
        return
    production.bring(image, name, replace=replace)
    _verify(image, name, production)
    report(f"{name} is {image.digest}")


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
        digest = self._metadata(name, "digest")
        if digest is None or (isinstance(digest, str) and digest.startswith("sha")):
            return digest
        raise ImportRefused(f"what {name} points to is not known: az says {str(digest)[:100]!r}")

    def tags(self, repository: str, digest: str) -> list[str]:
        """Every tag that points to a digest."""
        tags = self._metadata(f"{repository}@{digest}", "tags") or []
        if isinstance(tags, list) and all(isinstance(tag, str) for tag in tags):
            return tags
        raise ImportRefused(f"the tags of {repository}@{digest} are not known: az says {str(tags)[:100]!r}")

    def _metadata(self, name: str, field: str) -> Any:
        command = ["az", "acr", "manifest", "show-metadata", "--registry", self._registry, "--name", name]
        done = _az([*command, "--query", field, "--output", "json"], ASK_SECONDS, read=True)
        said = done.stderr.decode(errors="replace").strip()
        if done.returncode == 0:
            try:
                return json.loads(done.stdout)
            except (ValueError, RecursionError):
                raise ImportRefused(f"what {name} points to is not known: az says {done.stdout[:100]!r}") from None
        if _NO_SUCH_NAME.search(said):
            return None
        raise ImportRefused(f"what {name} points to is not known: {said or 'az says nothing'}")

    def bring(self, image: Tested, name: str, *, replace: bool) -> None:
        command = ["az", "acr", "import", "--name", self._registry, "--registry", self._staging_id]
        command += ["--source", f"{image.source}@{image.digest}", "--image", name]
        done = _az(command + (["--force"] if replace else []), IMPORT_SECONDS)
        if done.returncode:
            raise ImportRefused(f"import of {name} failed; run the rollout again, what is done stays done")

    def bring_evidence(self, image: Tested, repository: str) -> None:
        # What is attached to something goes before it: who finds an SBOM finds its signature, too.
        for digest in reversed(image.evidence):
            name = f"{repository}@{digest}"
            if self.digest(name) == digest:
                continue
            command = ["az", "acr", "import", "--name", self._registry, "--registry", self._staging_id]
            command += ["--source", f"{image.source}@{digest}", "--repository", repository, "--force"]
            if _az(command, IMPORT_SECONDS).returncode or self.digest(name) != digest:
                raise ImportRefused(f"import of {name} failed; run the rollout again, what is done stays done")


def _az(command: Sequence[str], seconds: float, *, read: bool = False) -> subprocess.CompletedProcess[bytes]:
    """Run the Azure command line; its output goes to the rollout's log unless it is read here."""
    try:
        return subprocess.run(command, check=False, capture_output=read, timeout=seconds)
    except subprocess.TimeoutExpired:
        said = f"`{' '.join(command)}` has not ended after {seconds:.0f} s"
        raise ImportRefused(f"{said}; run the rollout again, what is done stays done") from None


def _check_age(images: Sequence[Tested], production: _AzureProduction) -> None:
    """Refuse to take a `latest` back: to move it away from an image that has a higher release number.

    Raises:
        ImportRefused: One would be.
    """
    newer = []
    for image in images:
        ours = max((_number(name) for name in image.names), default=())
        for name in image.names:
            served = production.digest(name) if ours and name.endswith(LATEST) else None
            if served in (None, image.digest):
                continue
            tags = production.tags(name.removesuffix(LATEST), served)
            newer += [f"{name} is {tag}, which is newer" for tag in tags if _number(tag) > ours]
    if newer:
        raise ImportRefused("; ".join(newer))


def _number(name: str) -> tuple[int, ...]:
    """Day and number of a release tag; nothing, which is less than any, of another tag."""
    numbered = _NUMBERED.fullmatch(name.rpartition(":")[2])
    return (int(numbered[1]), int(numbered[2])) if numbered else ()


def read_drop(here: Path) -> list[Tested]:
    """What import.cfg names, with the digests of release.json.

    Raises:
        SystemExit: They are damaged, or disagree.
    """
    try:
        entries = json.loads((here / "import.cfg").read_text("utf-8"))
        images = json.loads((here / "release.json").read_text("utf-8"))["images"]
        digests = {image["staging"]["reference"]: image["staging"]["digest"] for image in images}
        evidence = {
            image["staging"]["reference"]: [each["digest"] for each in image.get("evidence", ())] for image in images
        }
        wanted = [(entry["source"]["imageName"], entry["destination"]["imageNames"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"import.cfg and release.json cannot be read ({error!r}): the drop is damaged")
    for reference, _ in wanted:
        if reference not in digests:
            sys.exit(f"import.cfg names {reference}, which is not in release.json: the drop is damaged")
        if not _DIGEST.fullmatch(str(digests[reference])):
            sys.exit(f"release.json has {digests[reference]!r} as the digest of {reference}: the drop is damaged")
    return [
        Tested(reference.partition("/")[2].rpartition(":")[0], digests[reference], names, evidence[reference])
        for reference, names in wanted
    ]


def _variable(name: str) -> str:
    """A variable that the release system has to set."""
    return os.environ.get(name) or sys.exit(f"{name} is not set; ScopeBindings.json names what has to be")


def main() -> None:
    """Import the drop that this file lies in; ends with a message at the first import that fails."""
    production = _AzureProduction(_variable("PRODUCTION_REGISTRY"), _variable("STAGING_REGISTRY_ID"))
    images = read_drop(Path(__file__).resolve().parent)
    try:
        _check_age(images, production)
        import_all(images, production, lambda line: print(line, flush=True))
    except ImportRefused as refused:
        sys.exit(str(refused))


if __name__ == "__main__":
    main()
