"""What is uploaded for a run."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.dockerfile.expansion import expand, split_words
from aml_images_dagster.engine.acr_tasks.builder import quoted, with_labels, write_source_archive
from aml_images_dagster.engine.interface import BuildRequest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import MakeContext

ANY_TEXT = st.text(st.characters(exclude_categories=("Cs",)))


@given(ANY_TEXT, st.sampled_from("\\`"))
def test_a_label_is_read_as_it_was_meant(text: str, escape: str) -> None:
    word = quoted(text, escape)
    assert split_words(word, keep_quoting=True, escape=escape) == [word]
    assert expand(word, {}, escape).value == " ".join(text.splitlines())


def test_labels_are_an_instruction_of_the_last_stage() -> None:
    text = "FROM a AS first\nFROM b\nCOPY x /"
    assert with_labels(text, {"one": 'say "1"', "two": "$2"}) == (
        'FROM a AS first\nFROM b\nCOPY x /\nLABEL "one"="say \\"1\\"" "two"="\\$2"\n'
    )
    assert with_labels(text, {}) == text


def test_the_escape_character_of_the_dockerfile_is_used() -> None:
    assert with_labels("# escape=`\nFROM b\n", {"path": "C:\\a `b`"}).endswith('LABEL "path"="C:\\a ``b``"\n')


def test_the_archive_is_the_context_with_labels(make_context: MakeContext, tmp_path: Path) -> None:
    context = make_context({"deep/Dockerfile": "FROM scratch\n", "note": "text"})
    request = BuildRequest(context, "deep/Dockerfile", "a/b:1", "linux/amd64", 60, labels={"key": "value"})
    write_source_archive(request, tmp_path / "source.tar.gz")
    with tarfile.open(tmp_path / "source.tar.gz", "r:gz") as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isreg()}
        read = {name: file.read().decode() for name, file in files.items() if file}
    assert read == {"deep/Dockerfile": 'FROM scratch\n\nLABEL "key"="value"\n', "note": "text"}


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
