"""A small git repository of image folders, and the command line run on it in its own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

# Imported here so that copies of this process need not: the command imports each of its modules late.
import aml_images_dagster.cli.build
import aml_images_dagster.cli.builds
import aml_images_dagster.cli.cleanup
import aml_images_dagster.cli.diff
import aml_images_dagster.cli.discover
import aml_images_dagster.cli.doctor
import aml_images_dagster.cli.graph
import aml_images_dagster.cli.import_images
import aml_images_dagster.cli.list_images
import aml_images_dagster.cli.logs
import aml_images_dagster.cli.release
import aml_images_dagster.cli.releases
import aml_images_dagster.cli.rollback
import aml_images_dagster.cli.schedules
import aml_images_dagster.cli.show
import aml_images_dagster.cli.status
import aml_images_dagster.cli.validate
import aml_images_dagster.cli.withdraw  # noqa: F401
from aml_images_dagster.cli.main import main
from tests.forked_command import ForkedCommand, become

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Images under test need a command `python`; a shell stands in for it, so that they stay at two megabytes.
PYTHON = '#!/bin/sh\nexec sh "$@"\n'

DOCKERFILES = {
    "tools/shell": "FROM busybox\nCOPY python /bin/python\nCOPY greeting /greeting\n",
    "apps/hello": "ARG BASE=registry.example/shell\nFROM ${BASE:-none}:latest\nRUN cat /greeting > /hello\n",
    "apps/other": "FROM busybox:latest\nCOPY python /bin/python\n",
}
PRIVATE = "COPY LICENSE.txt ThirdPartyNotices.txt /\n"
TESTS = {"scenarios": [{"name": "runs", "kind": "training", "script": "runs.py"}], "timeout_minutes": 2}


def without_settings() -> dict[str, str]:
    """The variables of this process, but for those that are settings."""
    # pytest-xdist sets COLUMNS.
    return {k: v for k, v in os.environ.items() if not k.startswith(("AML_IMAGES_", "DAGSTER_", "COLUMNS"))}


@dataclass(frozen=True)
class ImageRepository:
    """A git repository of image folders, and `aml-images` on it.

    Attributes:
        root: Its folder.
        families: The families `tools` and `apps` under the names that the test has for itself.
    """

    root: Path
    families: Mapping[str, str]

    @classmethod
    def create(
        cls, root: Path, staging: str = "127.0.0.1:9", production: str = "127.0.0.1:9", suffix: str = ""
    ) -> ImageRepository:
        """Write and commit three images: tools/shell, apps/hello FROM it, apps/other beside them.

        Args:
            root: A folder that is not there yet.
            staging: Host of the staging registry; where nothing listens, unless given.
            production: Host of the production registry.
            suffix: Added to the families, so that tests that share registries keep apart.
        """
        families = {family: f"{family}{suffix}" for family in ("tools", "apps")}
        repository = cls(root, families)
        for image, dockerfile in DOCKERFILES.items():
            repository.write_image(image, dockerfile)
        for image in ("tools/shell", "apps/other"):
            (repository.folder(image) / "python").write_text(PYTHON)
            (repository.folder(image) / "python").chmod(0o755)
        repository.write(repository.folder("tools/shell") / "greeting", "hello\n")
        repository.write(root / "checks" / "runs.py", "echo running on $(hostname)\n")
        repository.configure(staging, production, f"public{suffix}/{{name}}")
        repository.git("init", "-q", "-b", "main")
        repository.commit("images")
        return repository

    def configure(self, staging: str, production: str, production_names: str) -> None:
        pyproject = f"""
[tool.aml-images]
docker-files-path = "images"
tests-path = "checks"
published-as = ["registry.example/{{name}}"]
production-names = "{production_names}"
staging-registry = "{staging}"
production-registry = "{production}"
base-mirrors = {{ "docker.io" = "{staging}/mirror/docker.io" }}
"""
        self.write(self.root / "pyproject.toml", pyproject)

    def write_image(self, image: str, dockerfile: str, tests: object = TESTS) -> None:
        """Write a complete image folder."""
        files = {"Dockerfile": dockerfile, "Dockerfile.private": PRIVATE, "tests.json": json.dumps(tests)}
        files |= {"LICENSE.txt": "MIT\n", "ThirdPartyNotices.txt": "busybox: GPL-2.0\n"}
        for name, content in files.items():
            self.write(self.folder(image) / name, content)

    @staticmethod
    def write(path: Path, content: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def git(self, *arguments: str) -> str:
        who = {f"GIT_{role}_{what}": f"a@b.{what}" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | who).stdout.strip()

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)
        return self.git("rev-parse", "HEAD")

    def folder(self, image: str) -> Path:
        """Folder of an image that `tools/…` or `apps/…` names."""
        family, name = image.split("/")
        return self.root / "images" / self.families[family] / name

    def image(self, image: str) -> str:
        """Id of an image that `tools/…` or `apps/…` names."""
        family, name = image.split("/")
        return f"{self.families[family]}/{name}"

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `aml-images` in the repository, with no settings around but these, as its own process group."""
        return subprocess.Popen(
            [sys.executable, "-c", "from aml_images_dagster.cli.main import main; main()", *arguments],
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=without_settings() | environment,
            start_new_session=True,
        )

    def fork(self, *arguments: str, **environment: str) -> ForkedCommand:
        """The same, without what Python needs to import it all."""
        return ForkedCommand(main, arguments, self.root, without_settings() | environment)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `aml-images` to its end. What only reads runs in a copy of this process, which starts at once."""
        if arguments[:1] != ("build",):
            return self.run_in_a_copy(*arguments, **environment)
        # PYTHONPATH counts only when Python starts, and a fork does not start it.
        start = self.start if "PYTHONPATH" in environment else self.fork
        process = start(*arguments, **environment)
        try:
            out, err = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode is not None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def run_in_a_copy(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `aml-images` in a copy of this process: at once, and good for all that does not start Dagster."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if child == 0:
                os._exit(self.be_the_command(arguments, environment, out.fileno(), err.fileno()))
            _, status = os.waitpid(child, 0)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(arguments, os.waitstatus_to_exitcode(status), out.read(), err.read())

    def be_the_command(self, arguments: tuple[str, ...], environment: Mapping[str, str], out: int, err: int) -> int:
        """Let this process, a copy that ends with it, be the command; its exit code."""
        return become(main, arguments, self.root, without_settings() | environment, out, err)

    def json(self, *arguments: str, **environment: str) -> Any:
        """What a command that succeeds prints as JSON."""
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    @property
    def artifacts(self) -> Path:
        return self.root / ".aml-images" / "artifacts"
