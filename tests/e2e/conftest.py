"""A small repository of images on busybox, and the command line run on it in its own process."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from aml_images_dagster.catalog.reference import Reference

# Images under test need a command `python`; a shell stands in for it, so that they stay at two megabytes.
PYTHON = '#!/bin/sh\nexec sh "$@"\n'

DOCKERFILES = {
    "tools/shell": "FROM busybox\nCOPY python /bin/python\nCOPY greeting /greeting\n",
    "apps/hello": "ARG BASE=registry.example/shell\nFROM ${BASE:-none}:latest\nRUN cat /greeting > /hello\n",
    "apps/other": "FROM busybox:latest\nCOPY python /bin/python\n",
}
PRIVATE = "COPY LICENSE.txt ThirdPartyNotices.txt /\n"
TESTS = {"scenarios": [{"name": "runs", "kind": "training", "script": "runs.sh"}], "timeout_minutes": 2}


@dataclass(frozen=True)
class Repository:
    """A git repository of image folders, and `aml-images` on it."""

    root: Path
    registry: str
    families: dict[str, str]

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{role}_{what}": f"a@b.{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | who).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def folder(self, image: str) -> Path:
        family, name = image.split("/")
        return self.root / "images" / self.families[family] / name

    def image(self, image: str) -> str:
        family, name = image.split("/")
        return f"{self.families[family]}/{name}"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from aml_images_dagster.cli.main import main; main()", *arguments]
        return subprocess.run(
            command,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
            env={k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_"))} | environment,
        )

    def json(self, *arguments: str, **environment: str) -> object:
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def artifacts(self) -> Path:
        return self.root / ".aml-images" / "artifacts"


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


def _empty(registry, families):
    for family in families:
        for tag in registry.tags(family):
            registry.untag(Reference(registry.host, family, tag))


@pytest.fixture
def repository(request, tmp_path, staging, production):
    """Three images: tools/shell, apps/hello FROM it, apps/other beside them. Families belong to the test alone."""
    # The same in every run, because registries list a repository for ever.
    unique = hashlib.sha256(f"{request.config.rootpath} {request.node.nodeid}".encode()).hexdigest()[:8]
    families = {family: f"{family}-{unique}" for family in ("tools", "apps")}
    root = tmp_path / "repository"
    root.mkdir()
    repository = Repository(root, staging.host, families)
    for image, dockerfile in DOCKERFILES.items():
        files = {"Dockerfile": dockerfile, "Dockerfile.private": PRIVATE, "tests.json": json.dumps(TESTS)}
        files |= {"LICENSE.txt": "MIT\n", "ThirdPartyNotices.txt": "busybox: GPL-2.0\n"}
        _write(repository.folder(image), files)
    for image in ("tools/shell", "apps/other"):
        _write(repository.folder(image), {"python": PYTHON})
        (repository.folder(image) / "python").chmod(0o755)
    _write(repository.folder("tools/shell"), {"greeting": "hello\n"})
    _write(root, {"checks/runs.sh": "echo running on $(hostname)\n"})
    pyproject = f"""
[tool.aml-images]
docker-files-path = "images"
tests-path = "checks"
published-as = ["registry.example/{{name}}"]
production-names = "public/{unique}/{{name}}"
staging-registry = "{staging.host}"
production-registry = "{production.host}"
base-mirrors = {{ "docker.io" = "{staging.host}/mirror/docker.io" }}
"""
    _write(root, {"pyproject.toml": pyproject})
    repository.git("init", "-q", "-b", "main")
    repository.commit("images")
    _empty(staging, families.values())
    yield repository
    _empty(staging, families.values())
