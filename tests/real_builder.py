"""Asks the engine's BuildKit what it does with a Dockerfile and a context, without the factory in between.

Three Dockerfiles end the engine of Docker 26.1.5: one without FROM, one with a pattern that is empty, `${X#}`, and one
with a stage that takes files from a stage which is FROM it. `is_harmless` tells them apart; nothing else is given to an
engine that others use.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from aml_images_dagster.engine.buildkit.buildx import Buildx
from aml_images_dagster.engine.buildkit.features import supported_features

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from aml_images_dagster.catalog.builder_features import BuilderFeatures

_SECONDS = 120
_FIRST = re.compile(r"(?:(?:#[^\n]*|[ \t]*|ARG [A-Za-z=${}_]+)\n)*FROM [a-z$]", re.IGNORECASE)
_PERHAPS_EMPTY = re.compile(r"[#%](?![\w*?.#%])")
_IN_BRACES = re.compile(r"\{[^ \n]*")
_STAGE = re.compile(r"^[ \t]*FROM[ \t]+([^\s-]\S*)?(?:.*[ \t]AS[ \t]+(\S+))?", re.IGNORECASE | re.MULTILINE)
_TAKEN = re.compile(r"from=[\"']?([^\s,\"']+)", re.IGNORECASE)


def is_harmless(text: str) -> bool:
    """Whether a Dockerfile cannot end the engine."""
    return (
        bool(_FIRST.match(text.removeprefix("\ufeff").replace("\r", "")))
        and not any(_PERHAPS_EMPTY.search(braces) for braces in _IN_BRACES.findall(text))
        and not _perhaps_circular(text)
    )


def _perhaps_circular(text: str) -> bool:
    """Whether a stage takes files from itself or from one below, and a stage is FROM another."""
    text = text.removeprefix("\ufeff")
    stages = list(_STAGE.finditer(text))
    last = {stage[2].lower(): index for index, stage in enumerate(stages) if stage[2]}
    if not any(stage[1] and stage[1].lower() in last for stage in stages):
        return False
    ends = [stage.start() for stage in stages[1:]] + [len(text)]
    return any(
        (int(source) if source.lstrip("+-").isdecimal() else last.get(source.lower(), -1)) >= index
        for index, (stage, end) in enumerate(zip(stages, ends, strict=True))
        for source in _TAKEN.findall(text, stage.end(), end)
    )


class RealBuilder:
    """BuildKit of the engine, through buildx."""

    def __init__(self) -> None:
        self._buildx = Buildx()

    def features(self) -> BuilderFeatures:
        """What it can do."""
        from aml_images_dagster.catalog.builder_features import BuilderFeatures

        with tempfile.TemporaryDirectory() as folder:
            return BuilderFeatures("the builder", supported_features(self._buildx, Path(folder) / "kept.json", ""))

    def refusal(self, text: str, context: Path, *, builds: bool = True) -> str:
        """Why it refuses a Dockerfile; empty when it accepts it.

        Args:
            text: The Dockerfile.
            context: The folder that is its context.
            builds: Build; else the Dockerfile is only made into the steps of a build.
        """
        arguments = [] if builds else ["--print=outline"]
        with self._build(text, context, "type=cacheonly", *arguments) as (refusal, _):
            return refusal

    def files(self, text: str, context: Path, target: str = "") -> dict[str, str] | str:
        """What is in the image, or in a stage: paths, and what is there. A text says why it is refused."""
        with self._build(text, context, "type=tar,dest={}", f"--target={target}") as (refusal, content):
            if refusal:
                return refusal
            with tarfile.open(content) as tar:
                return {member.name.rstrip("/"): _described(tar, member) for member in tar.getmembers()}

    def labels(self, text: str, build_args: Mapping[str, str]) -> dict[str, str] | str:
        """The labels of the image. A text says why it is refused."""
        arguments = [f"--build-arg={name}={value}" for name, value in build_args.items()]
        with (
            tempfile.TemporaryDirectory() as context,
            self._build(text, Path(context), "type=oci,dest={}", "--platform=linux/amd64", *arguments) as built,
        ):
            refusal, content = built
            return refusal or _labels(content)

    @contextmanager
    def _build(self, text: str, context: Path, output: str, *arguments: str) -> Iterator[tuple[str, Path]]:
        """Why it is refused, empty if not, and the file that it was written to."""
        assert is_harmless(text), text
        with tempfile.TemporaryDirectory() as folder:
            yield self._build_in(Path(folder), text, context, output, *arguments)

    def _build_in(self, folder: Path, text: str, context: Path, output: str, *arguments: str) -> tuple[str, Path]:
        dockerfile, written = folder / "Dockerfile", folder / "written.tar"
        dockerfile.write_bytes(text.encode())
        command = self._buildx.command(
            "--progress=plain",
            "--provenance=false",
            "--no-cache",
            f"--output={output.format(written)}",
            f"--file={dockerfile}",
        )
        done = subprocess.run(
            [*command, *arguments, str(context)],
            env=self._buildx.environment(folder, {"BUILDX_EXPERIMENTAL": "1"}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
        if "Cannot connect to the Docker daemon" in done.stderr or "error reading from server" in done.stderr:
            raise RuntimeError(f"the engine is gone: {text!r}")
        return "" if done.returncode == 0 else done.stderr.rpartition("ERROR:")[2].strip() or "refused", written


def _labels(oci_layout: Path) -> dict[str, str]:
    with tarfile.open(oci_layout) as tar:

        def read(name: str) -> dict[str, object]:
            file = tar.extractfile(name)
            assert file is not None
            found: dict[str, object] = json.load(file)
            return found

        document: dict[str, object] = read("index.json")
        for key in ("manifests", "config"):
            described = document[key][0] if key == "manifests" else document[key]  # type: ignore[index]
            document = read(f"blobs/{described['digest'].replace(':', '/')}")  # type: ignore[index]
        return document["config"].get("Labels") or {}  # type: ignore[attr-defined]


def _described(tar: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.issym():
        return f"link to {member.linkname}"
    if member.isdir():
        return "folder"
    file = tar.extractfile(member)
    assert file is not None
    return f"{member.mode:o} {file.read().decode()}"


def write(folder: Path, files: Mapping[str, str], links: Mapping[str, str]) -> None:
    """Write files and symbolic links."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    for name, target in links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(target)
