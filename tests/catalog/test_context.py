"""What reaches the engine of an image folder, byte for byte."""

from __future__ import annotations

import hashlib
import tarfile

import pytest

from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.ignore_file import IgnoreFile
from aml_images_dagster.errors import BadInput

FOLDER = "base_images/docker/public/base/x"


def context(repository, revision=None):
    return BuildContext.of(repository.tree(revision), repository.catalog(revision).get("base/x"))


def names(repository):
    return [file.path for file in context(repository).files]


def key(repository, revision=None):
    image = repository.catalog(revision).get("base/x")
    return ContentKey.of(
        dockerfile=image.dockerfile.text,
        context=context(repository, revision),
        build_args=image.settings.build_args,
        platform=image.platform,
        bases={"debian:12": "sha256:1"},
    ).digest


@pytest.fixture
def full(git_repository):
    git_repository.image("base/x", Dockerfile__private="RUN secret\n", image__json="{}", tests__json="{}")
    git_repository.write(f"{FOLDER}/run.sh", "#!/bin/sh\n", executable=True)
    git_repository.write(f"{FOLDER}/deep/er/data", b"\x00\xff")
    git_repository.write(f"{FOLDER}/deep/tests.json", "data of the image\n")
    (git_repository.root / FOLDER / "link").symlink_to("deep/er/data")
    git_repository.image("base/x/inner", Dockerfile__private="RUN secret\n", image__json="{}", tests__json="{}")
    git_repository.write("base_images/docker/public/base/xy/other")
    git_repository.commit()
    return git_repository


def test_files(full):
    assert names(full) == [
        "Dockerfile",
        "LICENSE.txt",
        "ThirdPartyNotices.txt",
        "deep/er/data",
        "deep/tests.json",
        "inner/Dockerfile",
        "inner/LICENSE.txt",
        "inner/ThirdPartyNotices.txt",
        "link",
        "run.sh",
    ]


def test_private_files_never_get_in(full):
    full.write(f"{FOLDER}/deep/Dockerfile.private")
    full.write(f"{FOLDER}/.aml-images/leftover")
    assert not [name for name in names(full) if "private" in name or "aml-images" in name]


def test_the_tar_is_the_same_from_anywhere(full, tmp_path):
    tars = []
    for number, revision in enumerate((None, "HEAD")):
        target = tmp_path / f"{number}.tar"
        assert context(full, revision).write_tar(target, "FROM debian:12\nRUN secret\n", 7) == ".aml-images.Dockerfile"
        tars.append(target.read_bytes())
    assert tars[0] == tars[1]
    with tarfile.open(tmp_path / "0.tar") as tar:
        members = {member.name: member for member in tar.getmembers()}
        assert tar.extractfile(".aml-images.Dockerfile").read() == b"FROM debian:12\nRUN secret\n"
        assert tar.extractfile("deep/er/data").read() == b"\x00\xff"
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members.values()} == {(7, 0, 0, "", "")}
    assert members["run.sh"].mode == 0o755
    assert members["LICENSE.txt"].mode == 0o644
    assert members["deep/er"].isdir()
    assert members["deep/er"].mode == 0o755
    assert members["link"].issym()
    assert members["link"].linkname == "deep/er/data"


def test_keys_are_the_same_from_anywhere(full):
    assert key(full) == key(full, "HEAD")


def test_all_that_reaches_the_image_is_in_the_key(full):
    before = key(full)
    changes = [
        lambda: full.write(f"{FOLDER}/deep/er/data", "other"),
        lambda: full.write(f"{FOLDER}/new"),
        lambda: full.write(f"{FOLDER}/LICENSE.txt", "x\n", executable=True),
        lambda: full.write(f"{FOLDER}/Dockerfile.private", "RUN other\n"),
        lambda: full.write(f"{FOLDER}/image.json", '{"build_args": {"A": "1"}}'),
        lambda: full.write(f"{FOLDER}/.dockerignore", "deep\n"),
        lambda: full.remove(f"{FOLDER}/link"),
    ]
    seen = {before}
    for change in changes:
        change()
        seen.add(key(full))
    assert len(seen) == len(changes) + 1


def test_what_does_not_reach_the_image_is_not_in_the_key(full):
    before = key(full)
    full.write(f"{FOLDER}/tests.json", '{"x": 1}')
    full.write(f"{FOLDER}/image.json", '{"description": "x"}')
    full.write(f"{FOLDER}/inner/tests.json", "other")
    full.write(f"{FOLDER}/.dockerignore", "# nothing\nnosuch\n")
    full.write(f"{FOLDER}y/other", "changed\n")
    assert key(full) == before


def test_ignored_files_are_not_in_the_key(full):
    full.write(f"{FOLDER}/.dockerignore", "deep\n")
    before = key(full)
    full.write(f"{FOLDER}/deep/er/data", "other")
    assert key(full) == before


def test_a_file_that_changes_meanwhile_is_noticed(full, tmp_path):
    gathered = context(full)
    full.write(f"{FOLDER}/run.sh", "changed\n", executable=True)
    with pytest.raises(BadInput, match="changed while"):
        gathered.write_tar(tmp_path / "x.tar", "FROM debian:12\n", 0)


def test_sizes(full):
    gathered = context(full)
    (data,) = [file for file in gathered.files if file.path == "deep/er/data"]
    assert (data.size_bytes, data.sha256) == (2, hashlib.sha256(b"\x00\xff").hexdigest())
    assert gathered.size_bytes == sum(file.size_bytes for file in gathered.files) > 2


def test_large_file_pointers_are_refused(full):
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 1\n"
    full.write(f"{FOLDER}/big.bin", pointer)
    with pytest.raises(BadInput, match="Git LFS pointer") as error:
        context(full)
    assert error.value.where == f"{FOLDER}/big.bin"


def test_names_that_are_no_text_are_refused(full):
    (full.root / FOLDER / "caf\udce9").write_text("x")
    with pytest.raises(BadInput, match="not UTF-8") as error:
        context(full)
    assert error.value.where.endswith(r"caf\xe9")


FILES = [
    "a.txt",
    "b.md",
    "dir/a.txt",
    "dir/sub/a.txt",
    "dir/sub/b.md",
    "other/dir/a.txt",
    "README.md",
    ".hidden",
    "#odd",
]


@pytest.mark.parametrize(
    ("ignore", "gone"),
    [
        ("", []),
        ("\n# a.txt\n   \n", []),
        ("\ufeffa.txt\r\n", ["a.txt"]),
        ("a.txt", ["a.txt"]),
        ("/a.txt", ["a.txt"]),
        ("./a.txt  ", ["a.txt"]),
        ("a.txt/", ["a.txt"]),
        ("dir", ["dir/a.txt", "dir/sub/a.txt", "dir/sub/b.md"]),
        ("dir/", ["dir/a.txt", "dir/sub/a.txt", "dir/sub/b.md"]),
        ("*/a.txt", ["dir/a.txt"]),
        ("**/a.txt", ["a.txt", "dir/a.txt", "dir/sub/a.txt", "other/dir/a.txt"]),
        ("**/dir", ["dir/a.txt", "dir/sub/a.txt", "dir/sub/b.md", "other/dir/a.txt"]),
        ("dir/**", ["dir/a.txt", "dir/sub/a.txt", "dir/sub/b.md"]),
        ("dir/**/b.md", ["dir/sub/b.md"]),
        ("*.md\n!README.md", ["b.md"]),
        ("!README.md\n*.md", ["b.md", "README.md"]),
        ("dir\n!dir/sub", ["dir/a.txt"]),
        ("dir\n!dir/sub/b.md", ["dir/a.txt", "dir/sub/a.txt"]),
        ("**\n!dir/a.txt", [name for name in FILES if name != "dir/a.txt"]),
        ("*\n! dir", [name for name in FILES if not name.startswith("dir/")]),
        ("**/sub\n!**/b.md", ["dir/sub/a.txt"]),
        ("?.md", ["b.md"]),
        ("[ab].*", ["a.txt", "b.md"]),
        ("dir/../a.txt", ["a.txt"]),
        (".*", [".hidden"]),
        ("[^a].md", ["b.md"]),
        (".", []),
        (" #odd", ["#odd"]),
        ("/../a.txt", ["a.txt"]),
        ("/dir/../..", []),
        # An alternative of what begins with the one, and of what ends with the other; dir/sub does.
        ("a|b*", ["a.txt", "b.md", "dir/sub/a.txt", "dir/sub/b.md"]),
    ],
)
def test_dockerignore(ignore, gone):
    ignores = IgnoreFile(ignore.encode()).ignores
    assert [name for name in FILES if ignores(name)] == gone


@pytest.mark.parametrize("pattern", ["!", "!/", "! /", "!/..", "!/dir/..", "!//"])
def test_an_exception_for_nothing_or_everything_is_refused(pattern):
    with pytest.raises(BadInput, match="stands behind !") as error:
        IgnoreFile(f"dir\n{pattern}\n".encode())
    assert error.value.where == ".dockerignore:2"
