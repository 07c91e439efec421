"""A broken file of one image stops nothing but that image."""

from __future__ import annotations

from datetime import date

import pytest

from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.discovery import discover
from aml_images_dagster.catalog.validation import validate

TODAY = date(2026, 11, 26)

JSON = {
    "long number": '{"timeout_minutes": ' + "9" * 5_000 + "}",
    "long negative exponent": '{"timeout_minutes": 1e-' + "9" * 5_000 + "}",
    "infinite": '{"timeout_minutes": 1e999}',
    "no number": '{"timeout_minutes": NaN}',
    "nested lists": "[" * 100_000,
    "nested objects": '{"scenarios":' * 20_000,
    "nested and closed": '{"scenarios": ' + "[" * 3_000 + "]" * 3_000 + "}",
    "empty": "",
    "null": "null",
    "a list": "[]",
    "a text": '"text"',
    "half a surrogate": '{"description": "\\ud800"}',
    "zero bytes": "\0" * 100,
    "not UTF-8": b'{"description": "\xff"}',
    "UTF-16": '{"description": "x"}'.encode("utf-16"),
    "a mark alone": "\ufeff",
    "cut": '{"scenarios": [{"name": "',
    "keys twice": '{"scenarios": [], "scenarios": 1, "variants": {"a": {}, "a": null}}',
    "odd variants": '{"variants": {"": {}, "a/b": {}, "..": {"name": "../x"}, "x": {"tests": "../../../etc/passwd"}}}',
    "odd bases": '{"variants": {"a": {"base": ""}, "b": {"base": "not a reference"}}}',
    "odd days": '{"eol": "0000-99-99", "context": "../../../..", "platforms": ["", "linux/amd64/v9/x"]}',
    "odd scripts": '{"scenarios": [{"name": "a", "kind": "training", "script": "../../.."}]}',
    "odd paths": '{"scenarios": [{"name": "a\\u0000", "kind": "pytest", "path": "/etc"}]}',
}
DOCKERFILES = {
    "empty": "",
    "zero bytes": "\0\0",
    "not UTF-8": b"FROM \xff\n",
    "UTF-16": "FROM debian:12\n".encode("utf-16"),
    "nested variables": "FROM " + "${A:-" * 5_000,
    "nested lists": "FROM debian:12\nCMD " + "[" * 100_000,
    "long number in a list": f"FROM debian:12\nCMD [{'9' * 5_000}]\n",
    "many quotes": "FROM debian:12\nLABEL " + "\"'" * 20_000,
    "many patterns": "FROM debian:12\nCOPY " + "*?" * 500 + "[ /x\n",
    "odd classes": "FROM debian:12\nCOPY [z-a] []] [^-a] a[ \\ /x/\n",
    "odd mounts": 'FROM debian:12\nRUN --mount=,,,= --mount=\\" --mount --mount=size=9e99 x\n',
    "odd numbers": "FROM debian:12\nEXPOSE 99999999999999999999999\nHEALTHCHECK --retries=99999999999999 CMD x\n",
    "odd stages": "FROM a AS a\nFROM a AS a\nCOPY --from=99999999999999999999 x y\n",
    "a long line": "FROM " + "x" * 100_000,
    "a heredoc": "FROM debian:12\nCOPY <<E /x\n",
    "no-break spaces": "\u00a0FROM\u00a0debian\u00a0",
}
IGNORED = {
    "an exception of nothing": "!\n",
    "a class": "[\n",
    "a range": "[z-a]*\n",
    "a backslash": "a\\\n",
    "not UTF-8": b"\xff\xfe\n",
    "a long line": "x" * 100_000,
    "an odd repetition": "*{2}{3}\n*((\n",
}


@pytest.mark.parametrize("content", JSON.values(), ids=JSON)
@pytest.mark.parametrize("file", ["tests.json", "image.json"])
def test_json(git_repository, file, content):
    check_others(git_repository, file, content)


@pytest.mark.parametrize("content", DOCKERFILES.values(), ids=DOCKERFILES)
@pytest.mark.parametrize("file", ["Dockerfile", "Dockerfile.private"])
def test_dockerfiles(git_repository, file, content):
    check_others(git_repository, file, content)


@pytest.mark.parametrize("content", IGNORED.values(), ids=IGNORED)
def test_ignore_files(git_repository, content):
    check_others(git_repository, ".dockerignore", content)


def test_images_that_are_from_each_other_do_not_stop_others(git_repository):
    check_others(git_repository, "Dockerfile", "FROM mcr.microsoft.com/azureml/broken\n")


def check_others(repository, file, content):
    """List, validate and discover; `base/other` is as good as before."""
    repository.image("base/other", "FROM debian:12\nCOPY LICENSE.txt /\n")
    folder = repository.image("base/broken", "FROM debian:12\nCOPY . /x/\n")
    before = repository.commit()
    repository.write(f"{folder}/{file}", content)
    repository.commit()
    for revision in (None, "HEAD"):
        tree = repository.tree(revision)
        catalog = repository.catalog(revision)
        other = catalog.get("base/other")
        assert other.problems == ()
        assert ContextFiles(tree, other).names
        found = validate(catalog, tree, ["base/other"], today=TODAY)
        assert [finding for finding in found if finding.severity == "error"] == []
        validate(catalog, tree, today=TODAY)
        selected = {image.id for image in discover(tree, catalog, before, today=TODAY).images}
        assert "base/other" not in selected
        assert catalog.order(["base/other"]) == ["base/other"]
