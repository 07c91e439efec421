"""Writes an artifacts store as the version of today makes it, by real builds, releases and a rollback.

    python -m tests.builds.stores.make tests/builds/stores/DATE.tar.gz

It needs the engine, and the registries of `scripts/services` with the base of `scripts/bases busybox`. A store that is
here stays as it is: later versions have to read it.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
import uuid
from pathlib import Path

from tests.image_repository import ImageRepository

STAGING, PRODUCTION = "127.0.0.1:5000", "127.0.0.1:5001"
WHO = {"AML_IMAGES_RELEASE__WHO": "ada"}


def main() -> None:
    target = Path(sys.argv[1]).absolute()
    with tempfile.TemporaryDirectory() as folder:
        # The suffix keeps it apart in registries that others use, too.
        repository = ImageRepository.create(
            Path(folder) / "images", STAGING, PRODUCTION, f"-store-{uuid.uuid4().hex[:6]}"
        )
        repository.git("remote", "add", "origin", "https://git.example/images.git")
        other = repository.image("apps/other")
        builds = [change_and_build(repository, "--all"), change_and_build(repository, other)]
        for build in builds:
            succeed(repository, "release", build, **WHO)
        succeed(repository, "rollback", other, "--reason", "it is slow", **WHO)
        builds.append(change_and_build(repository, other))
        repository.write(repository.root / "checks" / "runs.py", "echo loss is rising >&2; exit 3\n")
        repository.commit("a test that fails")
        assert repository.run("build", other).returncode == 1
        with tarfile.open(target, "w:gz") as archive:
            archive.add(repository.artifacts, "artifacts", filter=anonymous)
        for build in builds:
            succeed(repository, "cleanup", build, "--yes", "--force")
        shutil.rmtree(repository.artifacts)


def change_and_build(repository: ImageRepository, images: str) -> str:
    repository.write(repository.folder("apps/other") / "Dockerfile.private", f"# {uuid.uuid4()}\nCOPY LICENSE.txt /\n")
    repository.commit("change")
    return str(repository.json("build", images)["build"])


def succeed(repository: ImageRepository, *arguments: str, **environment: str) -> None:
    done = repository.run(*arguments, **environment)
    assert done.returncode == 0, done.stdout + done.stderr


def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Without the names of users, and without what only the release system unpacks."""
    if member.name.endswith("/import.tar"):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
