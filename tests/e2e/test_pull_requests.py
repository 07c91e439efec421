"""Pull requests from end to end: `dagster dev`, a bare git remote, GitHub over HTTP, the engine and the registries."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg
import pytest

from aml_images_dagster.catalog.reference import Reference
from tests.browser.dagster_ui import DagsterUi
from tests.dagster_instance import open_instance
from tests.emulators.github import REPOSITORY, TOKEN, GitHub, OpenPullRequest
from tests.image_repository import ImageRepository
from tests.pull_requests.remote_repository import RemoteRepository, edit_docs, edit_hello, edit_shell, ref
from tests.trust.test_inventory import deb

pytestmark = [pytest.mark.engine, pytest.mark.e2e]

PATIENCE_SECONDS = 400
SECRET = "a-secret-of-the-builder-5d1c"


@dataclass
class Scene:
    """What the tests act on and look at."""

    remote: RemoteRepository
    github: GitHub
    ui: DagsterUi
    staging: object
    trap: object

    def open(self, number, change, **host):
        self.github.pull_requests.setdefault(number, OpenPullRequest(**host))
        return self.remote.push(number, change)

    def push(self, number, head):
        self.github.pull_requests.setdefault(number, OpenPullRequest())
        self.remote.author.git("push", "-q", "-f", "origin", f"{head}:{ref(number)}")
        return head

    def close(self, number):
        del self.github.pull_requests[number]
        self.remote.close(number)

    def until(self, condition, otherwise):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not (found := condition()):
            assert time.monotonic() < deadline, f"{otherwise()}\n{self.ticks()}\n{self.ui._log_end()}"
            time.sleep(0.5)
        return found

    def ended(self, head):
        """The last status of a commit, once it is none of waiting."""
        states = ("success", "failure", "error")
        seen = self.github.outcomes
        self.until(lambda: seen(head)[-1:] and seen(head)[-1] in states, lambda: f"{head} has {seen(head)}")
        return self.github.statuses[head][-1]

    def run_of(self, head):
        return self.until(
            lambda: next(iter(self.instance.get_runs(dg.RunsFilter(tags={"aml-images/commit": head}))), None),
            lambda: f"no run of {head}",
        )

    @property
    def instance(self):
        return open_instance(self.ui.home)

    def tags(self, ending=""):
        families = self.remote.factory.families.values()
        return sorted(f"{f}:{t}" for f in families for t in self.staging.tags(f) if t.endswith(ending))

    def ticks(self):
        told = []
        for state in self.instance.all_instigator_state():
            if state.instigator_name == "pull_requests":
                told += self.instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=12)
        return "\n".join(f"{tick.status} {tick.skip_reason} {tick.error and tick.error.to_string()}" for tick in told)

    def body(self, number):
        (comment,) = [c for c in self.github.comments[number] if c["user"]["login"] == "image-factory"]
        return comment["body"]


@pytest.fixture(scope="module")
def scene(request, tmp_path_factory, staging, production):
    suffix = f"-{hashlib.sha256(f'{request.config.rootpath} {request.node.nodeid}'.encode()).hexdigest()[:8]}"
    root = tmp_path_factory.mktemp("pulls")
    factory = ImageRepository.create(root / "repository", staging.host, production.host, suffix)
    with GitHub() as github:
        with (factory.root / "pyproject.toml").open("a") as file:
            values = {"host": "github", "api-url": github.url, "repository": REPOSITORY, "interval-seconds": 1}
            file.write("[tool.aml-images.pull-requests]\n")
            file.writelines(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        factory.commit("settings")
        remote = RemoteRepository.create(root, factory)
        settings = {
            "AML_IMAGES_AUTOMATION": "on",
            "AML_IMAGES_PULL_REQUESTS__TOKEN": TOKEN,
            "BUILDER_SECRET": SECRET,
        }
        empty(staging, factory.families.values())
        with DagsterUi(factory.root, root / "dagster", settings=settings) as ui:
            yield Scene(remote, github, ui, staging, root / "trapped")
        empty(staging, factory.families.values())


def empty(registry, repositories):
    for repository in repositories:
        for tag in registry.tags(repository):
            registry.delete(Reference(registry.host, repository, tag))


def test_from_opening_to_closing(scene):
    hello, shell = (scene.remote.factory.image(name) for name in ("apps/hello", "tools/shell"))
    new = scene.remote.factory.image("apps/new")
    edits = scene.open(1, edit_shell)
    writes = scene.open(2, edit_docs)
    adds = scene.open(3, lambda r: r.write_image("apps/new", "FROM registry.example/shell\nRUN cat /greeting\n"))

    # Only documentation: no run, and a success that says so.
    assert scene.ended(writes)["description"] == "nothing to build: no image is changed"
    assert scene.instance.get_runs(dg.RunsFilter(tags={"aml-images/pull-request": "2"})) == []

    # An image is edited: it and what is FROM it are built and tested, and can be found in staging.
    status = scene.ended(edits)
    assert status["state"] == "success", scene.body(1)
    assert scene.github.outcomes(edits) == ["pending", "success"]
    run = scene.run_of(edits)
    assert status["target_url"] == f"{scene.ui.url}/runs/{run.run_id}"
    number = run.tags["aml-images/build"]
    assert scene.tags(number) == [f"{i.replace('/', ':')}--{number}" for i in sorted((hello, shell))]
    # The comment follows the status.
    scene.until(lambda: "built, 1 tests passed" in scene.body(1), lambda: scene.body(1))
    assert f"`FROM {shell}`" in scene.body(1)
    artifacts = scene.remote.factory.artifacts / number
    assert json.loads((artifacts / "build.json").read_text())["pull_request"] == "1"
    assert not (artifacts / "release.json").exists()
    greeting = scene.remote.factory.folder("tools/shell").relative_to(scene.remote.factory.root) / "greeting"
    assert (artifacts / "sources" / greeting).read_text() == "good day\n"  # from the commit,
    assert (scene.remote.factory.root / greeting).read_text() == "hello\n"  # not from the working tree

    # An image is added: the code location is reloaded, and builds it.
    assert scene.ended(adds)["state"] == "success", scene.body(3)
    added = scene.run_of(adds).tags["aml-images/build"]
    assert f"{new.replace('/', ':')}--{added}" in scene.tags(added)

    # Another push while a build runs: that one is canceled, and nothing of it stays.
    slow = scene.open(1, lambda r: edit_hello(r, "RUN sleep 120\n"))
    started = scene.run_of(slow)
    scene.until(
        lambda: (
            scene.instance.get_run_by_id(started.run_id).status is dg.DagsterRunStatus.STARTED
            and "aml-images/build" in scene.instance.get_run_by_id(started.run_id).tags
        ),
        lambda: "the slow build has not started",
    )
    quick = scene.open(1, lambda r: edit_hello(r, "RUN echo quick\n"))
    assert scene.ended(quick)["state"] == "success", scene.body(1)
    assert scene.ended(slow) == {
        "state": "error",
        "context": "aml-images",
        "description": f"superseded by {quick[:8]}",
        "target_url": f"{scene.ui.url}/runs/{started.run_id}",
    }
    canceled = scene.instance.get_run_by_id(started.run_id)
    assert canceled.status is dg.DagsterRunStatus.CANCELED
    scene.until(lambda: scene.tags(canceled.tags["aml-images/build"]) == [], lambda: str(scene.tags()))
    assert scene.tags(scene.run_of(quick).tags["aml-images/build"])
    assert len(scene.github.comments[1]) == 1

    # Pushed back to a commit that was built before: it is evaluated and built again, from what passed.
    scene.push(1, edits)
    again = scene.until(lambda: newer_run(scene, edits, run), lambda: "no new run of the commit")
    scene.until(lambda: scene.github.outcomes(edits)[2:] == ["pending", "success"], lambda: scene.body(1))
    scene.until(lambda: "reused from" in scene.body(1), lambda: scene.body(1))
    assert len(scene.tags(number_of(scene, again))) == 2

    # Closed: nothing of them stays.
    for each in (1, 2, 3):
        scene.close(each)
    scene.until(lambda: scene.tags() == [], lambda: str(scene.tags()))
    scene.until(lambda: scene.remote.factory.git("for-each-ref", "refs/aml-images/pull") == "", lambda: "refs are kept")

    # Opened again: built again, and told in the same comment.
    scene.push(1, edits)
    scene.until(lambda: newer_run(scene, edits, again), lambda: "no run of what was opened again")
    scene.until(lambda: scene.github.outcomes(edits)[4:] == ["pending", "success"], lambda: scene.body(1))
    assert len(scene.github.comments[1]) == 1
    scene.close(1)
    scene.until(lambda: scene.tags() == [], lambda: str(scene.tags()))
    for commit in (writes, edits, adds, slow, quick):
        print(commit[:8], scene.github.outcomes(commit), scene.github.statuses[commit][-1]["description"])


def test_a_major_change_is_a_warning_until_it_is_released(scene, production):
    factory, author = scene.remote.factory, scene.remote.author
    image = factory.image("apps/other")

    def has_python(version):
        def change(r):
            minor = version.rpartition(".")[0]
            r.write(r.folder("apps/other") / "status", deb(f"python{minor}-minimal", f"{version}-1"))
            dockerfile = r.folder("apps/other") / "Dockerfile"
            if "status" not in dockerfile.read_text():
                r.write(dockerfile, f"{dockerfile.read_text()}COPY status /var/lib/dpkg/status\n")

        return change

    has_python("3.10.2")(factory)
    factory.commit("Python 3.10")
    factory.git("push", "-q", "origin", "HEAD:main")
    author.git("fetch", "-q", "origin")
    factory.json("release", factory.json("build", image, "--release-tag", "v1")["build"])

    head = scene.remote.push(31, has_python("3.12.1"), onto="origin/main")
    scene.push(31, head)
    assert scene.ended(head)["state"] == "success", scene.body(31)
    scene.until(lambda: "✅ success" in scene.body(31), lambda: scene.body(31))
    print(scene.body(31))
    warning = f"⚠️ **May break users**, so that a release needs `--accept-major`:\n\n- `{image}`: `Python 3.10 → 3.12`\n"
    assert warning in scene.body(31)
    assert f"<details><summary><code>{image} against v1: packages: 1 added, 1 removed; " in scene.body(31)

    factory.git("pull", "-q", "origin", ref(31))
    build = factory.json("build", image, "--release-tag", "v2")["build"]
    refused = factory.run("release", build)
    assert (refused.returncode, f"{image}: Python 3.10 → 3.12" in refused.stderr) == (2, True), refused.stderr
    record = factory.json("release", build, "--accept-major")
    assert record["accepted_major"] == [f"{image}: Python 3.10 → 3.12"]
    notes = Path(record["release_notes"]).read_text()
    assert "Accepted by" in notes
    assert "`Python 3.10 → 3.12`" in notes

    scene.close(31)
    empty(production, [change["repository"] for change in record["changes"][:1]])
    for each in scene.staging.tags(image.partition("/")[0]):
        if build in each:
            scene.staging.delete(Reference(scene.staging.host, image.partition("/")[0], each))


def newer_run(scene, commit, than):
    run = scene.run_of(commit)
    return run if run.run_id != than.run_id else None


def number_of(scene, run):
    return scene.instance.get_run_by_id(run.run_id).tags["aml-images/build"]


def test_malicious_pull_requests(scene):
    """Each gets a clear message on its page; nothing leaks, and honest ones are built beside them."""
    other, before = scene.remote.factory.image("apps/other"), scene.tags()

    def spies(r):
        lines = "RUN env; cat /proc/1/environ /proc/self/environ | tr '\\\\0' '\\\\n'; ls -l / /run /var/run; exit 7\n"
        with (r.folder("apps/other") / "Dockerfile").open("a") as file:
            file.write(lines)
        code = f"open({str(scene.trap)!r}, 'w')\n"
        for path in ("base_images/scripts/x.py", "conftest.py", "sitecustomize.py", "aml_images_dagster/__init__.py"):
            r.write(r.root / path, code)
        r.write(r.root / "pyproject.toml", '[tool.aml-images]\nbuild-network = "host"\n')

    def links(r):
        (r.folder("apps/other") / "link").symlink_to("/etc/hostname")
        with (r.folder("apps/other") / "Dockerfile").open("a") as file:
            file.write("COPY link /stolen\n")

    def climbs(r):
        with (r.folder("apps/other") / "Dockerfile").open("a") as file:
            file.write("COPY ../../../pyproject.toml /stolen\n")

    heads = {
        11: (scene.open(11, spies), "failed"),
        12: (scene.open(12, links), "nothing is copied where the symbolic link"),
        13: (scene.open(13, climbs), ""),
        14: (scene.open(14, lambda r: r.write(r.folder("apps/other") / "tests.json", "[" * 100_000_000)), "100.0 MB"),
        15: (scene.push(15, many_folders(scene.remote)), "files are changed, at most 5000"),
        16: (scene.push(16, dotdot(scene.remote)), "git refuses an object of it"),
        17: (scene.open(17, huge), "MB, at most 500 MB are built"),
        20: (scene.push(20, unfolding(scene.remote)), "more than 1.1 GB of memory"),
        18: (scene.open(18, edit_hello, from_fork=True, author="mallory"), "comes from outside"),
    }

    def last(head):
        """What was said last; as long as nothing was, it waits."""
        return scene.github.statuses[head][-1]["description"] if scene.github.statuses[head] else "waiting"

    def is_told(number, head, words):
        return words in scene.github.statuses[head][-1]["description"] or words in scene.body(number)

    honest = scene.open(19, lambda r: edit_shell(r, "still well\n"))
    for number, (head, words) in heads.items():
        if number == 18:
            scene.until(lambda: "waiting" not in last(heads[18][0]), lambda: f"18 was told {last(heads[18][0])!r}")
        else:
            assert scene.ended(head)["state"] == "failure", (number, scene.body(number))
        scene.until(partial(is_told, number, head, words), partial(scene.body, number))
        print(number, scene.github.statuses[head][-1]["state"], scene.github.statuses[head][-1]["description"])
    assert scene.ended(honest)["state"] == "success", scene.body(19)
    scene.until(lambda: "exit code: 7" in scene.body(11), lambda: scene.body(11))
    assert "/etc/hostname" not in scene.body(12) or "stolen" in scene.body(12)

    assert not scene.trap.exists()
    everything = [json.dumps(scene.github.comments), json.dumps(scene.github.statuses)]
    for folder in (scene.remote.factory.artifacts, scene.ui.home):
        paths = (path for path in folder.rglob("*") if path.is_file())
        everything += [path.read_bytes().decode("latin-1") for path in paths]
    for secret in (SECRET, TOKEN):
        assert not any(secret in text for text in everything)
    hostname = os.uname().nodename
    assert hostname not in scene.body(12)
    assert [tag for tag in scene.tags() if other.partition("/")[2] in tag and tag not in before] == []
    for number in (*heads, 19):
        scene.close(number)
    scene.until(lambda: {*scene.tags()} <= {*before}, lambda: str(scene.tags()))


def made(remote, command, text, *options):
    arguments = ["git", "-C", str(remote.author.root), command, *options]
    return subprocess.run(arguments, input=text, capture_output=True, check=True).stdout.decode().strip()


def many_folders(remote):
    git = remote.author.git
    folder = git("rev-parse", f"main:{remote.factory.folder('apps/hello').relative_to(remote.factory.root)}")
    family = made(remote, "mktree", "".join(f"040000 tree {folder}\ti{n}\n" for n in range(10_000)).encode())
    images = made(remote, "mktree", f"040000 tree {family}\tmany\n".encode())
    tree = made(remote, "mktree", f"040000 tree {images}\timages\n".encode())
    return git("commit-tree", tree, "-p", "main", "-m", "many")


def unfolding(remote):
    """A tree of ten billion files."""
    git = remote.author.git
    tree = git("rev-parse", f"main:{remote.factory.folder('apps/hello').relative_to(remote.factory.root)}")
    for _ in range(10):
        tree = made(remote, "mktree", "".join(f"040000 tree {tree}\td{n}\n" for n in range(10)).encode())
    return git("commit-tree", tree, "-p", "main", "-m", "unfolds")


def dotdot(remote):
    blob = remote.author.git("rev-parse", "main:pyproject.toml")
    entry = b"100644 ..\0" + bytes.fromhex(blob)
    tree = made(remote, "hash-object", entry, "-t", "tree", "-w", "--stdin", "--literally")
    return remote.author.git("commit-tree", tree, "-p", "main", "-m", "evil")


def huge(r):
    with (r.folder("apps/other") / "data").open("wb") as file:
        file.truncate(600_000_000)
