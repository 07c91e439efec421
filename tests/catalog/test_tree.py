"""The same content has the same files, modes and bytes, from a folder and from a commit."""

from __future__ import annotations

import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.tree import CommitTree, FileMode, WorkingTree, _walk
from aml_images_dagster.errors import BadInput

WALK = "aml_images_dagster.catalog.tree._walk"


def contents(tree):
    """Path → mode and bytes, of everything."""
    files = tree.files()
    return {path: (files[path].mode, content) for path, content in tree.read_many(files)}


@pytest.fixture
def full_repository(git_repository):
    """A repository with one of everything."""
    git_repository.write("a/file", b"\x00\r\nbinary\xff")
    git_repository.write("a/run.sh", "#!/bin/sh\n", executable=True)
    git_repository.write("a/empty", "")
    git_repository.write("a/new\nline", "odd\n")
    git_repository.write("z", "last\n")
    (git_repository.root / "a/link").symlink_to("file")
    (git_repository.root / "outside").symlink_to("/etc")
    git_repository.write(".gitignore", "*.log\n")
    git_repository.commit()
    return git_repository


def test_folder_and_commit_agree(full_repository):
    working, commit = full_repository.tree(), full_repository.tree("HEAD")
    assert contents(working) == contents(commit)
    assert list(working.files()) == list(commit.files()) == sorted(commit.files())
    assert commit.files()["a/run.sh"].mode is FileMode.EXECUTABLE
    assert commit.read("a/link") == working.read("a/link") == b"file"
    assert working.read("outside") == commit.read("outside") == b"/etc", "a link is read, not followed"
    assert working.commit is None
    assert commit.commit == full_repository.git("rev-parse", "HEAD")


def test_a_folder_without_git_agrees_too(full_repository, tmp_path):
    plain = tmp_path / "plain"
    shutil.copytree(full_repository.root, plain, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    assert contents(WorkingTree(plain)) == contents(full_repository.tree())


def test_the_working_tree_has_what_git_would_add(full_repository):
    full_repository.write("untracked")
    full_repository.write("a/noise.log")
    (full_repository.root / "a/file").unlink()
    files = full_repository.tree().files()
    assert "untracked" in files
    assert "a/noise.log" not in files
    assert "a/file" not in files
    assert "a/file" in full_repository.tree("HEAD").files()


def test_nothing_behind_a_link_is_read(full_repository, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("secret")
    shutil.rmtree(full_repository.root / "a")
    (full_repository.root / "a").symlink_to(elsewhere)
    tree = full_repository.tree()
    assert "a/file" not in tree.files()
    assert tree.files()["a"].mode is FileMode.SYMLINK
    with pytest.raises(KeyError):
        tree.read("a/file")
    with pytest.raises(KeyError):
        tree.read("../elsewhere/file")


def test_submodules_and_nested_repositories_are_no_files(full_repository, new_git_repository):
    other = new_git_repository()
    other.write("inner")
    other.commit()
    full_repository.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", str(other.root), "module")
    full_repository.commit()
    shutil.copytree(other.root, full_repository.root / "nested")
    for tree in (full_repository.tree(), full_repository.tree("HEAD")):
        assert not [path for path in tree.files() if path.startswith(("module", "nested"))]


def test_modes_come_from_the_index_where_the_file_system_has_none(full_repository):
    full_repository.git("config", "core.fileMode", "false")
    (full_repository.root / "a/run.sh").chmod(0o644)
    (full_repository.root / "z").chmod(0o755)
    assert contents(full_repository.tree()) == contents(full_repository.tree("HEAD"))


def test_a_file_in_the_middle_of_a_merge_is_listed_once(git_repository):
    git_repository.write("file", "base\n")
    git_repository.commit()
    git_repository.git("checkout", "-q", "-b", "side")
    git_repository.write("file", "side\n")
    git_repository.commit()
    git_repository.git("checkout", "-q", "main")
    git_repository.write("file", "main\n")
    git_repository.commit()
    with pytest.raises(Exception, match="merge"):
        git_repository.git("merge", "-q", "side")
    assert list(git_repository.tree().files()) == ["file"]


def test_a_folder_of_a_repository(full_repository):
    root = full_repository.root / "a"
    commit = CommitTree(root, git.resolve(root, "HEAD"))
    assert contents(WorkingTree(root)) == contents(commit)
    assert "run.sh" in commit.files()


def test_prefixes_restrict_a_commit(full_repository):
    head = full_repository.git("rev-parse", "HEAD")
    assert set(CommitTree(full_repository.root, head, ["a"]).files()) == {
        path for path in full_repository.tree("HEAD").files() if path.startswith("a/")
    }
    assert set(CommitTree(full_repository.root, head, ["z", "nosuch"]).files()) == {"z"}


def test_a_bare_clone_will_do(full_repository, tmp_path):
    full_repository.git("clone", "-q", "--bare", ".", str(tmp_path / "bare"))
    bare = CommitTree(tmp_path / "bare", git.resolve(tmp_path / "bare", "HEAD"))
    assert contents(bare) == contents(full_repository.tree("HEAD"))


def test_a_damaged_clone_is_told(git_repository):
    git_repository.write("file", "content\n")
    git_repository.commit()
    tree = git_repository.tree("HEAD")
    oid = tree.files()["file"].oid
    (git_repository.root / ".git/objects" / oid[:2] / oid[2:]).unlink()
    with pytest.raises(BadInput, match="git has no object"):
        tree.read("file")


@pytest.mark.parametrize("after", [0, 20, 60, 70])
def test_a_git_that_is_killed_leaves_no_half_of_a_file(git_repository, killed_git, after):
    git_repository.write("Dockerfile", "FROM busybox\nRUN echo 1\n")
    git_repository.commit()
    tree = git_repository.tree("HEAD")
    assert tree.files()
    killed_git("cat-file", after)  # of 48 for the line before the content, and 25
    for _ in range(2):
        with pytest.raises(git.Killed):
            tree.read("Dockerfile")


def test_reading_stops_without_reading_all(full_repository):
    """A caller may take only the first of many files."""
    tree = full_repository.tree("HEAD")
    reader = tree.read_many(tree.files())
    assert next(reader)[0] == next(iter(tree.files()))
    reader.close()


def test_small_files_of_a_commit_are_read_from_git_once(git_repository, monkeypatch):
    git_repository.write("empty", "")
    git_repository.write("small", "s" * 1024)
    git_repository.write("large", "l" * 1025)
    git_repository.commit()
    tree = git_repository.tree("HEAD")
    before = contents(tree)

    def no_process(*_, **__):
        raise AssertionError("git was asked again")

    monkeypatch.setattr("aml_images_dagster.catalog.tree.subprocess.Popen", no_process)
    assert dict(tree.read_many(["small", "empty", "small"])) == {path: before[path][1] for path in ("small", "empty")}
    assert list(tree.read_many([])) == []
    with pytest.raises(AssertionError, match="asked again"):
        tree.read("large")


def test_no_such_folder(tmp_path):
    with pytest.raises(BadInput, match="no such folder"):
        WorkingTree(tmp_path / "nosuch")


names = st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=8).filter(
    lambda name: (
        name not in (".", "..") and name.lower() != ".git" and name != ".gitignore" and name != ".gitattributes"
    )
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.lists(names, min_size=1, max_size=3).map("/".join),
        st.tuples(st.binary(max_size=20), st.booleans()),
        max_size=6,
    )
)
def test_any_files_are_the_same_from_both(new_git_repository, files):
    folders = {parent for path in files for parent in _parents(path)}
    files = {path: content for path, content in files.items() if path not in folders}
    repository = new_git_repository()
    for path, (content, executable) in files.items():
        repository.write(path, content, executable=executable)
    repository.commit()
    expected = {
        path: (FileMode.EXECUTABLE if executable else FileMode.REGULAR, content)
        for path, (content, executable) in files.items()
    }
    assert contents(repository.tree()) == contents(repository.tree("HEAD")) == expected


def _parents(path):
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def test_a_folder_that_is_not_there_is_missed_before_all_files_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(WALK, lambda _: pytest.fail("it is searched"))
    with pytest.raises(BadInput, match=r"there is no folder 'images' in /"):
        Catalog.load(WorkingTree(tmp_path), "images", ["registry.example/{name}"])


def test_a_huge_folder_without_git_is_not_searched_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("aml_images_dagster.catalog.tree._MOST_FILES", 3)
    for number in range(3):
        (tmp_path / f"{number}").touch()
    assert len(WorkingTree(tmp_path).files()) == 3
    (tmp_path / "4").touch()
    listed = []
    monkeypatch.setattr(WALK, lambda root: (listed.append(path) or path for path in _walk(root)))
    (tmp_path / "5").touch()
    with pytest.raises(BadInput, match="more than 3 files, and this is no git repository"):
        WorkingTree(tmp_path).files()
    assert len(listed) == 4
