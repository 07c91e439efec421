"""The context as the engine sees it."""

from __future__ import annotations

import os
import subprocess
import uuid

import pytest

from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.ignore_file import IgnoreFile
from aml_images_dagster.engine.interface import BuildRequest

pytestmark = pytest.mark.engine

PATHS = [
    "a.txt",
    "b.md",
    "dir/a.txt",
    "dir/sub/a.txt",
    "dir/sub/b.md",
    "other/dir/a.txt",
    "README.md",
    ".hidden",
    "x[y",
]

IGNORES = [
    "# a.txt\n\n  \n./a.txt  \r\nb.md/",
    "**/dir",
    "dir/**/b.md\n*/a.txt",
    "!README.md\n*.md\n!b.md",
    "dir\n!dir/sub\ndir/sub/a.txt",
    "*\n! dir",
    "[^a].*",
    "**dir\n.*",
]


@pytest.fixture
def run(engine, busybox):
    """Builds from a tar and returns what a command prints in the image."""
    made = []

    def build_and_run(tar, dockerfile, *command):
        tag = f"tests-context:{uuid.uuid4().hex[:12]}"
        made.append(tag)
        request = BuildRequest(tar, dockerfile, tag, "linux/amd64", 120)
        engine.build(request, lambda _: None)
        return subprocess.run(
            ["docker", "run", "--rm", "--network=none", tag, *command], check=True, capture_output=True, text=True
        ).stdout

    yield build_and_run
    for tag in made:
        engine.forget(tag)


def test_the_image_cannot_copy_what_is_private(git_repository, busybox, run, tmp_path):
    secret = f"secret-{uuid.uuid4().hex}"
    folder = git_repository.image(
        "base/x",
        f"FROM {busybox}\nCOPY . /x\n",
        Dockerfile__private=f"RUN : {secret}\n",
        tests__json='{"scenarios": []}',
        __dockerignore="LICENSE.txt\n",
    )
    git_repository.write(f"{folder}/run.sh", "#!/bin/sh\necho ran\n", executable=True)
    (git_repository.root / folder / "link").symlink_to("run.sh")
    image = git_repository.catalog().get("base/x")
    assert secret in image.dockerfile.text
    tar = tmp_path / "context.tar"
    dockerfile = BuildContext.of(git_repository.tree(), image).write_tar(tar, image.dockerfile.text, 0)
    listing = run(tar, dockerfile, "sh", "-c", "cd /x; find . | sort; grep -r secret- . || true; ./link; ls -ln run.sh")
    lines = listing.splitlines()
    assert lines[:6] == [".", "./Dockerfile", "./ThirdPartyNotices.txt", "./link", "./run.sh", "ran"]
    assert lines[6].split()[:4] == ["-rwxr-xr-x", "1", "0", "0"]


def test_dockerignore_means_what_it_means_to_docker(busybox, tmp_path):
    """One build per pattern list, by the docker command itself, which reads the file."""
    for ignore in IGNORES:
        folder = tmp_path / uuid.uuid4().hex[:8]
        for path in PATHS:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text("x")
        (folder / ".dockerignore").write_bytes(ignore.encode())
        dockerfile = tmp_path / "Dockerfile"
        dockerfile.write_text(f"FROM {busybox}\nCOPY . /x\nRUN cd /x; find . -type f | sort | sed 's/^/found: /'\n")
        done = subprocess.run(
            ["docker", "build", "--no-cache", "--rm", "--force-rm", "-q=false", "-f", str(dockerfile), str(folder)],
            check=True,
            capture_output=True,
            text=True,
            env={"DOCKER_BUILDKIT": "0", "PATH": os.environ["PATH"], "HOME": str(tmp_path)},
        )
        lines = done.stdout.splitlines()
        seen = [line.removeprefix("found: ./") for line in lines if line.startswith("found: ")]
        image = next(line.split()[-1] for line in lines if line.startswith("Successfully built"))
        subprocess.run(["docker", "rmi", "-f", image], check=True, capture_output=True)
        ignores = IgnoreFile(ignore.encode()).ignores
        ours = sorted(path for path in PATHS if not ignores(path))
        assert ours == sorted(set(seen) - {".dockerignore"}), ignore
