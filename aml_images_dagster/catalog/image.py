"""An image folder, read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.layout import DOCKERFILE as DOCKERFILE
from aml_images_dagster.catalog.layout import PRIVATE_SUFFIX
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from datetime import date

    from aml_images_dagster.catalog.dockerfile import Dockerfile
    from aml_images_dagster.catalog.finding import Finding
    from aml_images_dagster.catalog.image_file import ImageFile
    from aml_images_dagster.catalog.tests_file import Scenario, TestPlan

PRIVATE_DOCKERFILE = f"{DOCKERFILE}{PRIVATE_SUFFIX}"
TESTS_FILE = "tests.json"
IMAGE_FILE = "image.json"
LICENSE_FILE = "LICENSE.txt"
NOTICES_FILE = "ThirdPartyNotices.txt"
NOTICES_LOCK = "ThirdPartyNotices.lock.json"

FACTORY_FILES = frozenset({PRIVATE_DOCKERFILE, TESTS_FILE, IMAGE_FILE, NOTICES_LOCK})
"""Files at the top of an image folder that speak to the factory; they never reach a build."""


@dataclass(frozen=True, slots=True)
class Image:
    """One image and what was read from its folder.

    Attributes:
        family: Name of the family; by default that of the parent folder.
        name: Name of the image; by default that of the folder.
        path: The folder, relative to the repository.
        os: Operating system of its containers.
        platform: What it is built for, e.g. `linux/amd64`; the first where it is several.
        parsed: The Dockerfile; None when it cannot be read. Whoever needs it takes `dockerfile`.
        parents: Images of the catalog that the Dockerfile names itself, by id, in the order of the file.
        bases: Other images that it names, as written there, in the order of the file.
        releases: Those of the bases that are one release of an image of the catalog, by a tag or a digest of its own.
        settings: image.json; the defaults when there is none, or a wrong one.
        tests: tests.json; None when there is none, or a wrong one.
        problems: What is wrong with the files.
        public_lines: How many lines of the Dockerfile's text come before those of Dockerfile.private; None without one.
        has_windows_base: Whether it is FROM a Windows image, directly or through others.
        host_build: OS build that the host of a Windows image must have, e.g. `10.0.20348`; None when no base says.
        dockerfile_name: Name of the Dockerfile in the folder.
        variant: Which of the variants in image.json it is; empty for an image that has a folder of its own.
        platforms: Everything that it is built for.
        context: The folder that is its build context, relative to the repository.
        settings_path: Its image.json, relative to the repository, whether it is there or not.
        tests_path: Its tests.json, relative to the repository, whether it is there or not.
    """

    family: str
    name: str
    path: str
    os: Literal["linux", "windows"]
    platform: str
    parsed: Dockerfile | None
    parents: tuple[str, ...]
    bases: tuple[str, ...]
    settings: ImageFile
    tests: TestPlan | None
    problems: tuple[Finding, ...] = ()
    public_lines: int | None = None
    has_windows_base: bool = False
    host_build: str | None = None
    dockerfile_name: str = DOCKERFILE
    variant: str = ""
    platforms: tuple[str, ...] = ()
    context: str = ""
    settings_path: str = ""
    tests_path: str = ""
    releases: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """`<family>/<name>`, by which the image is known everywhere."""
        return f"{self.family}/{self.name}"

    @property
    def dockerfile(self) -> Dockerfile:
        """The Dockerfile, the public and the private part combined.

        Raises:
            BadInput: It cannot be read.
        """
        if self.parsed is None:
            faults = [str(problem) for problem in self.problems if problem.severity == "error"]
            raise BadInput(
                "; ".join(faults) or "the Dockerfile cannot be read", where=self.id, hint="Correct the file."
            )
        return self.parsed

    @property
    def scenarios(self) -> tuple[Scenario, ...]:
        """The scenarios of tests.json; none when there is none, or a wrong one."""
        return self.tests.scenarios if self.tests else ()

    def is_past_end_of_life(self, today: date) -> bool:
        """Whether the image is built only when it is named."""
        return self.settings.eol is not None and today >= self.settings.eol

    def place(self, line: int) -> tuple[str, int]:
        """File and line, relative to the repository, of a line of the combined Dockerfile."""
        if self.public_lines is None or line <= self.public_lines:
            return self.dockerfile_path, line
        return self.private_path, line - self.public_lines

    @property
    def dockerfile_path(self) -> str:
        """The Dockerfile, relative to the repository."""
        return self.file(self.dockerfile_name)

    @property
    def private_path(self) -> str:
        """The private part of the Dockerfile, relative to the repository, whether there is one or not."""
        return self.dockerfile_path + PRIVATE_SUFFIX

    def file(self, name: str) -> str:
        """Path of a file of the folder, relative to the repository."""
        return f"{self.path}/{name}" if self.path else name
