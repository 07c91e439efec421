"""git's answers, and its refusals as a user is told them."""

from __future__ import annotations

import subprocess

import pytest

from aml_images_dagster.catalog import git
from aml_images_dagster.catalog.git import ChangedFile
from aml_images_dagster.errors import BadInput


def test_resolves_branches_tags_and_ancestors(git_repository):
    first = git_repository.commit()
    second = git_repository.commit()
    git_repository.git("tag", "-a", "-m", "one", "v1", first)
    root = git_repository.root
    assert git.resolve(root, "main") == second
    assert git.resolve(root, "HEAD~1") == first
    assert git.resolve(root, "v1") == first, "an annotated tag stands for its commit"


@pytest.mark.parametrize(
    "revision", ["nosuch", "--all", "-x", "", "HEAD^{tree}", "main:file", "a..b", "--output=/tmp/x"]
)
def test_an_unknown_revision_is_bad_input(git_repository, revision):
    git_repository.write("file")
    git_repository.commit()
    with pytest.raises(BadInput, match="git knows no revision"):
        git.resolve(git_repository.root, revision)


def test_no_repository_and_no_folder(tmp_path):
    with pytest.raises(BadInput, match="in no git repository"):
        git.resolve(tmp_path, "HEAD")
    with pytest.raises(BadInput, match="no such folder"):
        git.resolve(tmp_path / "missing", "HEAD")
    with pytest.raises(BadInput, match="in no git repository"):
        git.describe(tmp_path)


def test_a_missing_git_is_told(git_repository, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BadInput, match="git is not installed"):
        git.resolve(git_repository.root, "HEAD")


@pytest.mark.parametrize(
    ("subcommand", "ask"),
    [
        ("merge-base", lambda root, commit: git.merge_base(root, commit, commit)),
        ("cat-file", lambda root, commit: git.object_sizes(root, [commit])),
        ("rev-parse", git.resolve),
        ("rev-parse", lambda root, _: git.is_repository(root)),
        ("show", git.commit_time),
        ("grep", git.has_filters),
        ("diff-tree", lambda root, commit: git.changed_files(root, commit, commit)),
    ],
)
def test_a_git_that_is_killed_has_not_answered(git_repository, killed_git, subcommand, ask):
    commit = git_repository.commit()
    killed_git(subcommand, 0)
    with pytest.raises(git.Killed, match="git was killed"):
        ask(git_repository.root, commit)


def test_merge_base_of_a_branch(git_repository):
    fork = git_repository.commit()
    git_repository.git("checkout", "-q", "-b", "feature")
    feature = git_repository.commit()
    git_repository.git("checkout", "-q", "main")
    main = git_repository.commit()
    assert git.merge_base(git_repository.root, main, feature) == fork


def test_unrelated_histories_have_no_merge_base(git_repository):
    main = git_repository.commit("one")
    git_repository.git("checkout", "-q", "--orphan", "other")
    other = git_repository.commit("two")
    with pytest.raises(BadInput, match="no common commit") as error:
        git.merge_base(git_repository.root, main, other)
    assert "unrelated" in error.value.hint


def test_a_shallow_history_is_named_as_the_cause(git_repository, tmp_path):
    git_repository.commit("fork")
    git_repository.git("checkout", "-q", "-b", "feature")
    git_repository.commit("feature")
    git_repository.git("checkout", "-q", "main")
    git_repository.commit("main")
    clone = tmp_path / "clone"
    source = f"file://{git_repository.root}"
    subprocess.run(["git", "clone", "-q", "--depth=1", "--no-single-branch", source, str(clone)], check=True)
    with pytest.raises(BadInput, match="no common commit") as error:
        git.merge_base(clone, git.resolve(clone, "origin/main"), git.resolve(clone, "origin/feature"))
    assert "--unshallow" in error.value.hint
    with pytest.raises(BadInput) as error:
        git.resolve(clone, "HEAD~1")
    assert "--unshallow" in error.value.hint


def test_changed_files_with_odd_names_and_renames(git_repository):
    for name in ("kept", "gone", "old", "-dash", "new\nline", "tab\there", 'quo"te', "ünïcode", "mode"):
        git_repository.write(name, f"{name}\n" * 20)
    base = git_repository.commit()
    git_repository.remove("gone")
    git_repository.git("mv", "old", "new")
    git_repository.write("mode", "mode\n" * 20, executable=True)
    for name in ("-dash", "new\nline", "tab\there", 'quo"te', "ünïcode"):
        git_repository.write(name, "other\n")
    head = git_repository.commit()
    expected = [
        ChangedFile("-dash", "M"),
        ChangedFile("gone", "D"),
        ChangedFile("mode", "M"),
        ChangedFile("new", "A"),
        ChangedFile("new\nline", "M"),
        ChangedFile("old", "D"),
        ChangedFile('quo"te', "M"),
        ChangedFile("tab\there", "M"),
        ChangedFile("ünïcode", "M"),
    ]
    assert git.changed_files(git_repository.root, base, head) == expected
    assert git.changed_files(git_repository.root, base, None) == expected, "the working tree is at the head"


def test_changes_of_the_working_tree(git_repository):
    git_repository.write(".gitignore", "ignored\n")
    git_repository.write("staged")
    git_repository.write("unstaged")
    git_repository.write("deleted")
    git_repository.write("untracked now")
    base = git_repository.commit()
    git_repository.write("staged", "other\n")
    git_repository.git("add", "staged")
    git_repository.write("unstaged", "other\n")
    (git_repository.root / "deleted").unlink()
    git_repository.git("rm", "-q", "--cached", "untracked now")
    git_repository.write("new")
    git_repository.write("ignored")
    assert git.changed_files(git_repository.root, base, None) == [
        ChangedFile("deleted", "D"),
        ChangedFile("new", "A"),
        ChangedFile("staged", "M"),
        ChangedFile("unstaged", "M"),
        ChangedFile("untracked now", "M"),
    ]


def test_a_touched_file_is_not_a_changed_file(git_repository):
    git_repository.write("file")
    base = git_repository.commit()
    git_repository.write("file")
    assert git.changed_files(git_repository.root, base, None) == []


def test_a_folder_in_a_repository_sees_only_itself(git_repository):
    git_repository.write("inside/file")
    git_repository.write("outside")
    base = git_repository.commit()
    git_repository.write("inside/file", "other\n")
    git_repository.write("outside", "other\n")
    head = git_repository.commit()
    git_repository.write("inside/untracked")
    folder = git_repository.root / "inside"
    assert git.changed_files(folder, base, head) == [ChangedFile("file", "M")]
    assert git.changed_files(folder, base, None) == [ChangedFile("file", "M"), ChangedFile("untracked", "A")]


def test_the_users_configuration_does_not_change_the_answer(git_repository):
    git_repository.write("old", "x\n" * 50)
    base = git_repository.commit()
    git_repository.git("mv", "old", "new")
    head = git_repository.commit()
    for name, value in (("diff.renames", "copies"), ("diff.external", "false"), ("core.quotePath", "true")):
        git_repository.git("config", name, value)
    expected = [ChangedFile("new", "A"), ChangedFile("old", "D")]
    assert git.changed_files(git_repository.root, base, head) == expected
    assert git.changed_files(git_repository.root, base, None) == expected


def test_a_signature_that_git_shows_is_no_part_of_the_answer(git_repository):
    git_repository.write("file")
    unsigned = git_repository.git("cat-file", "commit", git_repository.commit())
    head, _, message = unsigned.partition("\n\n")
    signature = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----"
    path = git_repository.root.parent / "signed"
    path.write_text(f"{head}\n{signature}\n\n{message}\n")
    signed = git_repository.git("hash-object", "-t", "commit", "-w", str(path)).strip()
    git_repository.git("update-ref", "HEAD", signed)
    git_repository.git("config", "log.showSignature", "true")
    assert git.resolve(git_repository.root, "HEAD") == signed
    assert git.commit_time(git_repository.root, signed) == int(head.rsplit("> ", 1)[1].split()[0])
    assert [each.name for each in git.log(git_repository.root, signed, signed, [""])] == []


def test_the_variables_of_a_hook_do_not_point_elsewhere(git_repository, new_git_repository, monkeypatch):
    commit = git_repository.commit("here")
    other = new_git_repository()
    other.write("file")
    other.commit("there")
    monkeypatch.setenv("GIT_DIR", str(other.root / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.root))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.root / ".git" / "index"))
    assert git.resolve(git_repository.root, "HEAD") == commit
    assert git.describe(git_repository.root) == commit


def test_describe(git_repository):
    assert git.describe(git_repository.root) == "", "there is no commit yet"
    git_repository.write("file")
    commit = git_repository.commit()
    assert git.describe(git_repository.root) == commit
    git_repository.write(".env")
    assert git.describe(git_repository.root) == commit, "that is of the machine"
    git_repository.write("new")
    assert git.describe(git_repository.root) == f"{commit}-dirty"


def test_origin_has_no_credentials(git_repository):
    assert git.origin_url(git_repository.root) == ""
    git_repository.git("remote", "add", "origin", "https://user:secret@example.org/team/images.git")
    assert git.origin_url(git_repository.root) == "https://example.org/team/images.git"


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://token@example.org/x", "https://example.org/x"),
        ("https://user:p%40ss@example.org:8443/x.git?token=1#y", "https://example.org:8443/x.git"),
        ("https://us@er:secret@example.org/x", "https://example.org/x"),
        ("ssh://git:secret@example.org:22/x", "ssh://git@example.org:22/x"),
        ("ssh://example.org/x", "ssh://example.org/x"),
        ("git@example.org:team/x.git", "git@example.org:team/x.git"),
        ("/srv/git/x.git", "/srv/git/x.git"),
        ("file:///srv/git/x.git", "file:///srv/git/x.git"),
        ("../x", "../x"),
    ],
)
def test_without_credentials(url, safe):
    assert git.without_credentials(url) == safe
