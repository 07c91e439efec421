"""The notices of a folder and their lock: how they are written, and what is said of broken ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.image import NOTICES_FILE, NOTICES_LOCK
from aml_images_dagster.catalog.notices import Component, NoticesLock, head_of, notices_lines, notices_text, read_lock
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from tests.catalog.conftest import GitRepository

ZLIB = Component(type="deb", name="zlib", licence="Zlib", base=True)
CURL = Component(type="deb", name="curl", licence="curl")
NUMPY = Component(type="pypi", name="numpy", licence="BSD-3-Clause", version="2.4.6")
LOCK = NoticesLock(components=(NUMPY, ZLIB, CURL))
LOCK_TEXT = """\
{
  "components": [
    {"type": "deb", "name": "curl", "licence": "curl"},
    {"type": "pypi", "name": "numpy", "licence": "BSD-3-Clause", "version": "2.4.6"},
    {"type": "deb", "name": "zlib", "licence": "Zlib", "base": true}
  ]
}
"""
TEXT = """\
NOTICES: a

OpenBLAS (inside of NumPy)

==== Written by `aml-images notices` from what is in the image: change nothing below this line ====

Packages of the distribution, by source package: added by this image

curl
    Licence:   curl

Packages of Python: added by this image

numpy 2.4.6
    Licence:   BSD-3-Clause

Packages of the distribution, by source package: of the base

zlib
    Licence:   Zlib
"""
HEAD = "NOTICES: a\n\nOpenBLAS (inside of NumPy)"


def keep(repository: GitRepository, lock: str = LOCK_TEXT, text: str = TEXT) -> str:
    folder = repository.image("base/a", "FROM debian:12\nCOPY . /\n")
    repository.write(f"{folder}/{NOTICES_LOCK}", lock)
    repository.write(f"{folder}/{NOTICES_FILE}", text)
    return folder


def faults(repository: GitRepository) -> list[tuple[str, int | None, str]]:
    found = validate(repository.catalog(), repository.tree())
    return [(each.path.rpartition("/")[2], each.line, each.message) for each in found if each.severity == "error"]


def test_both_files_have_a_line_for_each_component_and_those_of_the_base_come_last() -> None:
    assert LOCK.text() == LOCK_TEXT
    assert notices_text(HEAD, LOCK) == TEXT
    assert notices_lines(HEAD, LOCK) == {("deb", "curl"): 9, ("pypi", "numpy"): 14, ("deb", "zlib"): 19}
    assert NoticesLock().text() == '{\n  "components": []\n}\n'


def test_what_a_person_has_written_stays() -> None:
    assert head_of(TEXT) == HEAD
    assert notices_text(head_of(TEXT), LOCK) == TEXT
    assert head_of("written by hand\n\n") == "written by hand"


def test_a_component_without_a_licence_says_so() -> None:
    text = notices_text("", NoticesLock(components=(Component(type="generic", name="tool"),)))
    assert text.endswith("Others (generic): added by this image\n\ntool\n    Licence:   not stated by the package\n")


def test_a_lock_that_says_what_the_notices_say_is_no_finding(git_repository: GitRepository) -> None:
    keep(git_repository)
    image = git_repository.catalog().get("base/a")

    assert faults(git_repository) == []
    assert read_lock(git_repository.tree(), image) == NoticesLock(components=(CURL, NUMPY, ZLIB))


def test_the_lock_is_read_by_the_factory_alone(git_repository: GitRepository) -> None:
    folder = keep(git_repository)
    context = ContextFiles(git_repository.tree(), git_repository.catalog().get("base/a"))

    assert context.includes(f"{folder}/{NOTICES_FILE}")
    assert not context.includes(f"{folder}/{NOTICES_LOCK}")


@pytest.mark.parametrize(
    ("wrong", "line", "said"),
    [
        (LOCK_TEXT.replace('"licence": "Zlib"', '"license": "Zlib"'), 5, 'unknown key "components[2].license"'),
        (LOCK_TEXT.replace('"numpy"', '""'), 4, "components[1].name"),
        (LOCK_TEXT.replace('"zlib"', '"curl"'), 5, "deb curl is there twice"),
        ("{", 1, ""),
        ('["a"]', 1, ""),
    ],
)
def test_a_broken_lock_is_one_message_with_its_line(
    git_repository: GitRepository, wrong: str, line: int, said: str
) -> None:
    keep(git_repository, lock=wrong)
    ((path, at, message),) = faults(git_repository)

    assert (path, at) == (NOTICES_LOCK, line)
    assert said in message
    with pytest.raises(BadInput) as caught:
        read_lock(git_repository.tree(), git_repository.catalog().get("base/a"))
    assert caught.value.where.endswith(f"{NOTICES_LOCK}:{line}")


@pytest.mark.parametrize(
    ("text", "line"),
    [(TEXT.replace("BSD-3-Clause", "MIT"), 15), (TEXT.rpartition("zlib")[0], 19), (HEAD, 4), (f"{TEXT}more\n", 21)],
)
def test_notices_that_do_not_say_what_the_lock_says_are_a_finding_with_the_line(
    git_repository: GitRepository, text: str, line: int
) -> None:
    keep(git_repository, text=text)

    hint = "`aml-images notices base/a --write` writes both"
    assert faults(git_repository) == [(NOTICES_FILE, line, f"it does not say what {NOTICES_LOCK} says; {hint}")]


def test_a_folder_of_several_images_keeps_no_lock(git_repository: GitRepository) -> None:
    folder = keep(git_repository)
    git_repository.write(f"{folder}/image.json", '{"variants": {"x": {}, "y": {}}}')

    messages = [message for _, _, message in faults(git_repository)]
    assert messages == [
        "a lock is of one image, and this folder has base/a-x and base/a-y; remove it",
        "a lock is of one image, and this folder has base/a-x and base/a-y; remove it",
    ]


def test_a_lock_in_place_of_which_there_is_a_link_stops_no_other_image(git_repository: GitRepository) -> None:
    keep(git_repository, text=HEAD)
    other = git_repository.image("base/b")
    (git_repository.root / other / NOTICES_LOCK).symlink_to("/nowhere")

    of_a, of_b = faults(git_repository)
    assert of_a[0] == NOTICES_FILE
    assert (of_b[0], of_b[2]) == (NOTICES_LOCK, "not valid JSON: expecting value, at column 1")
