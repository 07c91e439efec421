"""The files of one image, however broken: the others are listed, validated, discovered, loaded and watched.

Case C20: one bad file stops nothing but its own image, which is named.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import pytest

from aml_images_dagster.builds.source import discover_images, load_source
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.definitions import definitions
from aml_images_dagster.defs.keys import asset_key
from aml_images_dagster.settings import Settings, load_settings
from tests.image_repository import DOCKERFILES, ImageRepository

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.builds.session import Source

    Break = Callable[[Path], object]


def text(content: str) -> Break:
    return lambda path: path.write_text(content)


def binary(content: bytes) -> Break:
    return lambda path: path.write_bytes(content)


def folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "inside").write_text("x")


def link(target: str) -> Break:
    def make(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target)

    return make


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


DIGITS = "9" * 5000
ANY_FILE: dict[str, Break] = {
    "binary": binary(bytes(range(256)) * 10),
    "not-utf8": binary(b'{"a": "\xff\xfe"}\n\xff'),
    "zeros": binary(b"\0" * 100),
    "folder": folder,
    "broken-link": link("nowhere"),
    "link-to-itself": link("Dockerfile"),
    "link-outside": link("/etc/passwd"),
}
JSON: dict[str, Break] = {
    "many-digits": text(f'{{"timeout_minutes": {DIGITS}, "size_budget_mb": -{DIGITS}.5e9}}'),
    "deep-list": text("[" * 100_000),
    "deep-map": text('{"a":' * 20_000 + "1" + "}" * 20_000),
    "utf16": binary('{"a": 1}'.encode("utf-16")),
    "empty": text(""),
    "null": text("null"),
    "list": text("[]"),
    "no-number": text('{"timeout_minutes": NaN, "size_budget_mb": Infinity}'),
    "half-a-character": text('{"description": "\\ud800", "variants": {"\\ud800": {}}}'),
    "wrong-types": text('{"scenarios": {}, "variants": [], "eol": 5, "owners": "x", "platforms": {"a": 1}}'),
    "odd-variants": text('{"variants": {"": {}, "../x": {"name": "../../y"}, "*": {"base": "{{"}}, "scenarios": 1}'),
}
DOCKERFILE: dict[str, Break] = {
    "empty": text(""),
    "from-nothing": text("FROM\n"),
    "from-itself": text("FROM registry.example/dockerfile-from-itself\n"),
    "zero-byte": text("FROM a\0b\n"),
    "no-reference": text("FROM {{}}:{{latest-image-tag:(}}\n"),
    "endless-variable": text("FROM ${A:-${A:-${A:-" + "\n"),
    "long-line": text("FROM busybox\nRUN " + "x" * 200_000 + "\n"),
    "heredoc-without-end": text("FROM busybox\nRUN <<A\n"),
}
FILES = {
    "Dockerfile": ANY_FILE | DOCKERFILE,
    "Dockerfile.private": ANY_FILE | {"from": text("FROM busybox\n")},
    "tests.json": ANY_FILE | JSON,
    "image.json": ANY_FILE | JSON,
}
IGNORED: dict[str, Break] = ANY_FILE | {
    "brackets": text("[" * 100_000),
    "stars": text("**/" * 3000 + "x" + "*a" * 3000),
    "lines": text("!**/*x*y*z*\n" * 3000),
    "escapes": text("\\\n[\\\n[a-\n[^]\n"),
}
"""What `.dockerignore` may be, which some of these ways do not break."""
BROKEN = {
    f"apps/{file.lower().replace('.', '-')}-{how}": (file, make)
    for file, ways in FILES.items()
    for how, make in ways.items()
}
"""Images, each with the file that is broken, and how."""
NOT_SEEN = {f"apps/dockerfile-{how}" for how in ("folder",)}
"""Without a Dockerfile there is no image."""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> ImageRepository:
    """Three good images among all the broken ones."""
    repository = ImageRepository.create(tmp_path_factory.mktemp("broken") / "repository")
    repository.git("branch", "before")
    for image, (file, make) in BROKEN.items():
        repository.write_image(image, "FROM busybox\nCOPY LICENSE.txt /\n")
        make(repository.folder(image) / file)
    for how, make in IGNORED.items():
        repository.write_image(f"apps/ignore-{how}", "FROM busybox\nCOPY . /x/\n")
        make(repository.folder(f"apps/ignore-{how}") / ".dockerignore")
    repository.write_image("apps/one", "FROM registry.example/two\n")
    repository.write_image("apps/two", "FROM registry.example/one\n")
    (repository.folder("apps/hello") / "greeting").write_text("hello\n")
    return repository


@pytest.fixture(scope="module", params=["working tree", "commit"])
def settings(
    request: pytest.FixtureRequest, repository: ImageRepository, tmp_path_factory: pytest.TempPathFactory
) -> Settings:
    if request.param == "commit":
        repository.commit("broken")
    else:
        for image in ("apps/dockerfile-pipe", "apps/tests-pipe"):
            repository.write_image(image, "FROM busybox\n")
        pipe(repository.folder("apps/dockerfile-pipe") / "Dockerfile")
        pipe(repository.folder("apps/tests-pipe") / "tests.json")
    return load_settings(repo=repository.root, home=tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def source(settings: Settings) -> Source:
    return load_source(settings)


def test_all_images_are_listed(source: Source) -> None:
    assert source.catalog.images.keys() >= {*DOCKERFILES, *BROKEN} - NOT_SEEN


def test_c20_the_broken_ones_are_named_and_no_others(source: Source) -> None:
    errors: dict[str, list[str]] = {}
    for finding in validate(source.catalog, source.tree):
        if finding.severity == "error":
            errors.setdefault(finding.image, []).append(f"{finding.path}: {finding.message}")
    assert not errors.keys() & {*DOCKERFILES, "apps/dockerfile-pipe", "apps/tests-pipe"}
    expected = BROKEN.keys() - NOT_SEEN
    assert errors.keys() >= expected, sorted(expected - errors.keys())
    for image in expected:
        file, _ = BROKEN[image]
        assert any(f"/{file}" in error for error in errors[image]), (image, errors[image])


def test_c20_what_changed_is_discovered(settings: Settings) -> None:
    found = {f"{image.family}/{image.name}" for image in discover_images(settings, "before", "").images}
    assert "apps/hello" in found
    assert found >= BROKEN.keys() - NOT_SEEN


def test_c20_the_code_location_loads_the_others(settings: Settings) -> None:
    loaded = definitions(settings).get_repository_def()
    keys = loaded.asset_graph.get_all_asset_keys()
    assert {asset_key(image, "staged") for image in DOCKERFILES} <= keys
    assert asset_key("apps/one", "staged") not in keys
    assert {sensor.name for sensor in loaded.sensor_defs} >= {"upstream_bases", "janitor", "pull_requests"}
    assert isinstance(loaded.get_job("build_images"), dg.JobDefinition)


@pytest.mark.parametrize("file", sorted(FILES))
def test_c20_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    repository = ImageRepository.create(tmp_path / "repository")
    (repository.folder("apps/other") / "image.json").write_text(json.dumps({"description": "x"}))
    path = repository.folder("apps/other") / file
    read = Path.read_bytes

    def refuse(self: Path) -> bytes:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    settings = load_settings(repo=repository.root, home=tmp_path / "home")
    source = load_source(settings)
    errors = {(f.image, f.message) for f in validate(source.catalog, source.tree) if f.severity == "error"}
    message = "the file cannot be read: Permission denied; check its permissions, and the disk."
    assert errors == {("apps/other", message)}
    keys = definitions(settings).get_repository_def().asset_graph.get_all_asset_keys()
    assert asset_key("apps/hello", "staged") in keys
    assert discover_images(settings, "main", "").images
