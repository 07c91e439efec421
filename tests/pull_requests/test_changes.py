"""The images that pull requests build, and what pull requests must not cause."""

from __future__ import annotations

import json
import subprocess
import tracemalloc

import pytest

from aml_images_dagster.errors import BadInput
from aml_images_dagster.profiles import backends_for
from aml_images_dagster.pull_requests.changes import find_changes
from aml_images_dagster.pull_requests.remote import GitRemote
from tests.pull_requests.remote_repository import edit_docs, edit_hello, edit_shell

HELLO, SHELL, OTHER = "apps/hello", "tools/shell", "apps/other"


@pytest.fixture
def find(remote, pull_settings):
    def find(change, **values):
        settings = pull_settings(**values)
        head = remote.push(1, change)
        source = GitRemote(settings.repo, settings.pull_requests, "refs/pull/*/head")
        assert source.fetch(1, head)
        return find_changes(settings, backends_for(settings), source.heads().target, head)

    return find


@pytest.fixture(autouse=True)
def nothing_released(monkeypatch):
    """No registry is asked: what a selection is built on is not what these tests are about."""
    monkeypatch.setattr(
        "aml_images_dagster.pull_requests.changes.with_needed_parents", lambda selection, *_: dict(selection)
    )


def test_an_edit_selects_the_image_and_its_descendants(find) -> None:
    changes = find(edit_shell)
    assert list(changes.reasons) == [HELLO, SHELL]
    assert changes.reasons[HELLO] == ("FROM tools/shell",)
    assert "greeting" in changes.reasons[SHELL][0]


def test_documentation_selects_nothing_or_all(find) -> None:
    assert find(edit_docs).reasons == {}
    assert list(find(edit_docs, nothing_changed="all").reasons) == [HELLO, OTHER, SHELL]


def test_a_new_image_and_one_that_is_removed(find) -> None:
    def change(repository):
        repository.write_image("apps/new", "FROM registry.example/shell\n")
        repository.git("rm", "-qr", "images/apps/other")

    changes = find(change)
    assert list(changes.reasons) == ["apps/new"]
    assert [(image.id, image.parents) for image in changes.images] == [("apps/new", (SHELL,))]
    assert changes.notes == ("apps/other is removed: nothing to build",)


def test_what_main_has_changed_meanwhile_does_not_count(remote, find) -> None:
    before = remote.author.git("rev-parse", "main")
    remote.merge(remote.push(9, edit_shell))
    remote.author.git("fetch", "-q", "origin")
    remote.factory.git("fetch", "-q", "origin", "main")
    remote.author.git("checkout", "-q", before)
    assert list(find(edit_hello).reasons) == [HELLO]


def test_what_cannot_be_built_is_told_with_file_and_line(find) -> None:
    def change(repository):
        repository.write(repository.folder(OTHER) / "tests.json", '{"scenarios": [{"name": "x", "knid": 1}]}')

    with pytest.raises(BadInput, match=r"images/apps/other/tests.json:1"):
        find(change)


def plan_on(compute, image=OTHER):
    def change(repository):
        repository.write(repository.root / "tests" / "test_it.py", "def test_it(): ...\n")
        plan = {"scenarios": [{"name": "it", "kind": "pytest", "path": "tests"}], "compute": compute}
        repository.write(repository.folder(image) / "tests.json", json.dumps(plan))

    return change


def test_tests_on_a_compute_that_the_target_branch_does_not_use_are_refused(find, monkeypatch) -> None:
    with pytest.raises(BadInput, match="compute 'gpu-h100' is used by no image of the target branch") as refused:
        find(plan_on("gpu-h100"))
    assert refused.value.where == f"images/{OTHER}/tests.json"
    assert list(find(plan_on("")).reasons) == [OTHER]
    monkeypatch.setenv("AML_IMAGES_AZURE__COMPUTE", "gpu-h100")
    assert list(find(plan_on("gpu-h100")).reasons) == [OTHER]


def test_a_compute_of_the_target_branch_is_used_by_pull_requests(remote, find) -> None:
    remote.merge(remote.push(9, plan_on("gpu")))
    remote.factory.git("fetch", "-q", "origin", "main")
    assert list(find(plan_on("gpu", HELLO)).reasons) == [HELLO]


def test_ten_thousand_image_folders(remote, find) -> None:
    git = remote.author.git
    folder = git("rev-parse", "main:images/apps/hello")
    family = _made(remote, "mktree", "".join(f"040000 tree {folder}\ti{n}\n" for n in range(10_000)))
    images = _made(remote, "mktree", f"040000 tree {family}\tmany\n")
    tree = _made(remote, "mktree", f"040000 tree {images}\timages\n")
    head = git("commit-tree", tree, "-p", "main", "-m", "many")
    with pytest.raises(BadInput, match=r"files are changed, at most 5000"):
        find(lambda repository: repository.git("reset", "-q", "--hard", head))


def _made(remote, command, text):
    arguments = ["git", "-C", str(remote.author.root), command]
    return subprocess.run(arguments, input=text, text=True, capture_output=True, check=True).stdout.strip()


def test_more_images_than_are_built_for_one_pull_request(find) -> None:
    def change(repository):
        for number in range(30):
            repository.write_image(f"apps/i{number}", "FROM busybox:1\n")

    with pytest.raises(BadInput, match="30 images would have to be built, at most 20"):
        find(change, max_images=20)


@pytest.mark.parametrize(
    "name",
    [
        *("tests.json", "image.json", "Dockerfile", "Dockerfile.private", ".dockerignore"),
        *("tests.gpu.json", "Dockerfile.image.json", "Dockerfile.dockerignore"),
    ],
)
def test_a_large_file_of_the_factory(find, name) -> None:
    with pytest.raises(BadInput, match=r"the file has 2\.0 MB") as told:
        find(lambda repository: repository.write(repository.folder(OTHER) / name, " " * 2_000_000))
    assert name in told.value.where


def test_a_tests_json_of_100_mb_is_never_read(remote, pull_settings) -> None:
    # Git packs it to some kilobytes.
    head = remote.push(1, lambda r: r.write(r.folder(OTHER) / "tests.json", "[" * 100_000_000))
    settings = pull_settings()
    source = GitRemote(settings.repo, settings.pull_requests, "refs/pull/*/head")
    assert source.fetch(1, head)
    tracemalloc.start()
    try:
        with pytest.raises(BadInput, match=r"the file has 100\.0 MB"):
            find_changes(settings, backends_for(settings), source.heads().target, head)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_a_huge_context(find) -> None:
    def change(repository):
        for number in range(3):
            repository.write(repository.folder(OTHER) / f"data{number}", "\0" * 2_000_000)

    with pytest.raises(BadInput, match="the changed files have 6 MB, at most 5 MB"):
        find(change, max_context_mb=5)


def test_paths_out_of_the_folder_are_refused_by_tests_json(find) -> None:
    def change(repository):
        tests = {"scenarios": [{"name": "x", "kind": "training", "script": "../../etc/passwd"}]}
        repository.write(repository.folder(OTHER) / "tests.json", json.dumps(tests))

    with pytest.raises(BadInput, match=r"without \.\."):
        find(change)


def test_dockerfiles_that_are_links(find) -> None:
    def change(repository):
        (repository.folder(OTHER) / "Dockerfile").unlink()
        (repository.folder(OTHER) / "Dockerfile").symlink_to("/etc/passwd")

    with pytest.raises(BadInput, match="a symbolic link is not allowed here"):
        find(change)


def test_no_python_of_a_pull_request_is_run(find, tmp_path) -> None:
    trap = tmp_path / "trapped"

    def change(repository):
        code = f"open({str(trap)!r}, 'w')\n"
        for path in ("base_images/scripts/build.py", "conftest.py", "images/apps/other/setup.py", "checks/x.py"):
            repository.write(repository.root / path, code)
        repository.write(repository.root / "pyproject.toml", '[tool.aml-images]\nstaging-registry = "evil.example"\n')

    assert list(find(change).reasons) == [OTHER]
    assert not trap.exists()


def break_hello(repository) -> None:
    (repository.folder(HELLO) / "tests.json").write_text('{"timeout_minutes": ' + "9" * 5000 + "}")


def test_c20_what_is_broken_already_stops_no_pull_request(find, remote) -> None:
    head = remote.push(2, break_hello)
    remote.merge(head)
    remote.author.git("branch", "-f", "main", head)
    remote.factory.git("fetch", "-q", "origin")
    changes = find(edit_shell)
    assert list(changes.reasons) == [SHELL]
    (note,) = changes.notes
    assert note.startswith(f"{HELLO} is left out, its files are wrong in the target branch: images/{HELLO}/tests.json")


def test_c20_what_a_pull_request_breaks_is_refused(find) -> None:
    def change(repository):
        edit_shell(repository)
        break_hello(repository)

    with pytest.raises(BadInput, match=r"cannot be built:\s+images/apps/hello/tests.json"):
        find(change)

    def of_another_platform(repository):
        (repository.folder(SHELL) / "image.json").write_text('{"platform": "linux/arm64"}')

    with pytest.raises(BadInput, match="the image is for linux/amd64, its base tools/shell for linux/arm64"):
        find(of_another_platform)
