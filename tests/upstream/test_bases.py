"""External bases by their full names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.upstream.bases import base_name, external_bases, is_fixed

if TYPE_CHECKING:
    from pathlib import Path

PINNED = f"quay.io/x/y@sha256:{'0' * 64}"
DOCKERFILES = {
    "a": "FROM ubuntu:22.04\n",
    "b": f"FROM docker.io/library/ubuntu:22.04 AS one\nFROM scratch\nCOPY --from={PINNED} / /\nCOPY --from=one / /\n",
    "c": "ARG TAG=22.04\nFROM ubuntu:${TAG} AS one\nFROM registry.example/a\nCOPY --from=one / /\n",
    "d": "FROM registry.example/c\n",
}


def test_bases_and_who_is_built_on_them(tmp_path: Path) -> None:
    for name, dockerfile in DOCKERFILES.items():
        folder = tmp_path / "images" / "x" / name
        folder.mkdir(parents=True)
        (folder / "Dockerfile").write_text(dockerfile)
    catalog = Catalog.load(WorkingTree(tmp_path), "images", ["registry.example/{name}"])
    assert external_bases(catalog.images.values()) == {
        "docker.io/library/ubuntu:22.04": ("x/a", "x/b", "x/c"),
        PINNED: ("x/b",),
    }
    assert is_fixed(PINNED)
    assert not is_fixed("docker.io/library/ubuntu:22.04")


def test_full_names() -> None:
    assert base_name("ubuntu") == "docker.io/library/ubuntu:latest"
    assert base_name("mcr.microsoft.com/windows/servercore:ltsc2022") == "mcr.microsoft.com/windows/servercore:ltsc2022"
