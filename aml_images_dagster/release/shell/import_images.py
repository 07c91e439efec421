"""Import the images of a drop into the production registry, by the digest that was tested.

Needs only Python and the Azure command line, because it runs where this package is not installed.
Environment: PRODUCTION_REGISTRY (name of the registry), STAGING_REGISTRY_ID (its Azure resource id: the caller's
own identity pulls from it, so no password is needed). Release tags are imported first, `latest` last of all.
"""

import json
import os
import subprocess
import sys
from pathlib import Path


def imports(here: Path) -> list[tuple[str, str, bool]]:
    """(source digest reference, destination, may overwrite) in the order in which to import.

    Raises:
        SystemExit: import.cfg or release.json is damaged, or they disagree.
    """
    try:
        entries = json.loads((here / "import.cfg").read_text("utf-8"))
        images = json.loads((here / "release.json").read_text("utf-8"))["images"]
        digests = {image["staging"]["reference"]: image["staging"]["digest"] for image in images}
        wanted = [(entry["source"]["imageName"], entry["destination"]["imageNames"]) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.exit(f"import.cfg and release.json cannot be read ({error!r}): the drop is damaged")
    steps = []
    for reference, destinations in wanted:
        if reference not in digests:
            sys.exit(f"import.cfg names {reference}, which is not in release.json: the drop is damaged")
        repository = reference.partition("/")[2].rpartition(":")[0]
        for destination in destinations:
            steps.append((f"{repository}@{digests[reference]}", destination, destination.endswith(":latest")))
    return sorted(steps, key=lambda step: step[2])


def variable(name: str) -> str:
    """A variable that the release system has to set."""
    return os.environ.get(name) or sys.exit(f"{name} is not set; ScopeBindings.json names what has to be")


def main() -> None:
    """Import everything; ends with a message at the first import that fails."""
    registry, staging_id = variable("PRODUCTION_REGISTRY"), variable("STAGING_REGISTRY_ID")
    for source, destination, overwrite in imports(Path(__file__).resolve().parent):
        print(f"{source} -> {destination}", flush=True)
        command = ["az", "acr", "import", "--name", registry, "--registry", staging_id]
        command += ["--source", source, "--image", destination]
        done = subprocess.run(command + (["--force"] if overwrite else []), check=False)
        if done.returncode and not (not overwrite and already_there(registry, destination, source)):
            sys.exit(f"import of {destination} failed; run the rollout again, what is done stays done")


def already_there(registry: str, destination: str, source: str) -> bool:
    """Whether an earlier rollout has imported the same digest under this name."""
    command = ["az", "acr", "manifest", "show-metadata", "--registry", registry, "--name", destination]
    done = subprocess.run(
        [*command, "--query", "digest", "--output", "tsv"], check=False, capture_output=True, text=True
    )
    return done.returncode == 0 and done.stdout.strip() == source.rpartition("@")[2]


if __name__ == "__main__":
    main()
