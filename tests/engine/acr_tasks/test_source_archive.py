"""What is uploaded for a run."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

from aml_images_dagster.engine.acr_tasks.builder import write_source_archive
from aml_images_dagster.engine.interface import BuildRequest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeContext


def test_the_archive_is_the_context(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context({"deep/Dockerfile": "FROM scratch\n", "note": "text"})
    request = BuildRequest(context, "deep/Dockerfile", "a/b:1", "linux/amd64", 60)
    write_source_archive(request, tmp_path / "source.tar.gz")
    with tarfile.open(tmp_path / "source.tar.gz", "r:gz") as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
        read = {name: file.read().decode() for name, file in files.items() if file}
    assert read == {"deep/Dockerfile": "FROM scratch\n", "note": "text"}


def test_for_buildx_the_context_is_a_folder_below_what_is_to_be_done(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context({"Dockerfile": "FROM scratch\n", "docker-bake.json": "of the image"})
    request = BuildRequest(
        context,
        "Dockerfile",
        "a.example/b:1",
        "linux/amd64",
        60,
        build_args={"A": "${B} %{if true} $5"},
        frontend="f@sha256:1",
        epoch=7,
    )
    write_source_archive(request, tmp_path / "source.tar.gz", for_buildx=True)
    with tarfile.open(tmp_path / "source.tar.gz", "r:gz") as archive:
        names = [member.name for member in archive if member.isreg()]
        bake = archive.extractfile("docker-bake.json")
        assert bake is not None
        (image,) = json.load(bake)["target"].values()
    assert sorted(names) == ["context/Dockerfile", "context/docker-bake.json", "docker-bake.json"]
    assert (image["context"], image["dockerfile"], image["tags"]) == ("context", "Dockerfile", ["a.example/b:1"])
    assert image["args"] == {
        "A": "$${B} %%{if true} $5",
        "BUILDKIT_SYNTAX": "f@sha256:1",
        "SOURCE_DATE_EPOCH": "7",
    }


def test_links_and_modes_stay(tmp_path: Path) -> None:
    link, script = tarfile.TarInfo("link"), tarfile.TarInfo("script")
    link.type, link.linkname, script.mode = tarfile.SYMTYPE, "script", 0o755
    with tarfile.open(tmp_path / "context.tar", "w") as context:
        context.addfile(link)
        context.addfile(script)
    request = BuildRequest(tmp_path / "context.tar", "Dockerfile", "a/b:1", "linux/amd64", 60)
    write_source_archive(request, tmp_path / "source.tar.gz")
    with tarfile.open(tmp_path / "source.tar.gz") as archive:
        assert archive.getmember("link").linkname == "script"
        assert archive.getmember("script").mode == 0o755
