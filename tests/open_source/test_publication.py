"""The public part of image folders reaches a bare public repository, and nothing else does."""

# ruff: noqa: F811 - fixtures of another folder are imported by name

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.copy import copy_image
from tests.release.conftest import complete_build, house, staged_build  # noqa: F401 - fixtures

if TYPE_CHECKING:
    from collections.abc import Callable

    from aml_images_dagster.engine.docker_engine import DockerEngine
    from aml_images_dagster.registry.oci import OciRegistry
    from aml_images_dagster.release.release_json import ReleaseJson
    from tests.image_repository import ImageRepository
    from tests.open_source.conftest import BareRepository
    from tests.release.conftest import House

pytestmark = pytest.mark.engine

BRANCH = "aml-images/sync"


def publish(repository: ImageRepository, *arguments: str) -> tuple[int, str, str]:
    done = repository.run("publish-source", *arguments)
    return done.returncode, done.stdout, done.stderr


def test_the_public_tree_is_all_that_is_needed_and_nothing_more(
    image_repository: ImageRepository, public: BareRepository, engine: DockerEngine
) -> None:
    before = public.git("rev-parse", "main")
    code, out, err = publish(image_repository)
    assert (code, out.partition(":")[0]) == (0, "Proposed"), err

    tools, apps = image_repository.families["tools"], image_repository.families["apps"]
    complete = ("Dockerfile", "LICENSE.txt", "ThirdPartyNotices.txt")
    expected = {
        "README.md",
        *(f"{apps}/hello/{name}" for name in complete),
        *(f"{apps}/other/{name}" for name in (*complete, "python")),
        *(f"{tools}/shell/{name}" for name in (*complete, "python", "greeting")),
    }
    assert set(public.files(BRANCH)) == expected
    assert public.git("rev-parse", f"{BRANCH}~1") == before == public.git("rev-parse", "main")
    assert "100755" in public.git("ls-tree", BRANCH, f"{apps}/other/python")
    readme = public.read(BRANCH, "README.md")
    assert "Written by people." in readme
    assert "| `registry.example/shell` | Busybox |  | not released yet | `busybox` |  |" in readme
    # Nothing of the proof stays in the engine.
    assert engine.local_digest(f"aml-images.public/{tools}:shell") is None

    assert publish(image_repository)[1].startswith("Already proposed")
    public.git("branch", "-f", "main", BRANCH)
    assert publish(image_repository)[1].startswith("Nothing to publish")


def test_a_dry_run_shows_the_diff_and_pushes_nothing(image_repository: ImageRepository, public: BareRepository) -> None:
    code, out, _ = publish(
        image_repository, "tools/shell".replace("tools", image_repository.families["tools"]), "--dry-run"
    )
    assert code == 0
    assert "+COPY greeting /greeting" in out
    assert "Dockerfile.private" not in out
    assert "nothing was built or pushed" in out.lower()
    assert public.git("branch", "--list", BRANCH) == ""


@pytest.mark.parametrize(
    ("file", "content", "line", "what"),
    [
        ("greeting", "hello\naws_key = AKIA" + "QZ7W" * 4 + "\n", 2, "a secret (AWS Access Key)"),
        ("greeting", "get it from vault-17\n", 1, "the internal name 'vault-17'"),
        ("greeting", "https://files.contoso.corp/x\n", 1, "the internal name 'files.contoso.corp'"),
        ("greeting", "\nfrom 10.1.2.3\n", 2, "the internal name '10.1.2.3'"),
        (
            "Dockerfile",
            "FROM busybox\nENV FEED_TOKEN=abcd1234\nCOPY python greeting /\n",
            2,
            "a value named like a password",
        ),
        (
            "Dockerfile",
            "FROM busybox\nRUN true \\\n    && echo  hush > /private\nCOPY python greeting /\n",
            3,
            "a line of",
        ),
        (
            "Dockerfile",
            "FROM busybox\nRUN true && echo \\\n    hush \\\n    > /private\nCOPY python greeting /\n",
            2,
            "a line of",
        ),
        ("greeting", "\0\1\2", None, "a binary file"),
    ],
)
def test_a_leak_stops_it(
    image_repository: ImageRepository, public: BareRepository, file: str, content: str, line: int | None, what: str
) -> None:
    folder = image_repository.folder("tools/shell")
    image_repository.write(image_repository.folder("apps/other") / "Dockerfile.private", "RUN echo hush > /private\n")
    image_repository.write(folder / file, content)
    code, out, err = publish(image_repository)
    place = f"{folder.parent.name}/shell/{file}" + (f":{line}" if line else "")
    assert code == 2, out
    (found,) = [told for told in err.splitlines() if place in told]
    assert found.strip().startswith(f"{place}: {what}")
    assert "AKIA" not in out + err
    assert "abcd1234" not in out + err
    assert public.git("branch", "--list", BRANCH) == ""


def test_what_was_proposed_before_is_looked_through_again(
    image_repository: ImageRepository, public: BareRepository
) -> None:
    shell, other = (image_repository.image(name) for name in ("tools/shell", "apps/other"))
    image_repository.write(image_repository.folder("tools/shell") / "greeting", "from project-falcon\n")
    assert publish(image_repository, shell)[0] == 0
    before = public.git("rev-parse", BRANCH)
    pyproject = image_repository.root / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace("internal-names = [", "internal-names = ['falcon', "))
    code, _, err = publish(image_repository, other)
    assert code == 2
    assert f"{shell}/greeting:1: the internal name 'falcon'" in err
    assert public.git("rev-parse", BRANCH) == before


def test_the_table_does_not_name_what_nobody_outside_knows_of(
    image_repository: ImageRepository, public: BareRepository
) -> None:
    assert publish(image_repository, image_repository.image("tools/shell"))[0] == 0
    readme = public.read(BRANCH, "README.md")
    assert "registry.example/shell" in readme
    assert "registry.example/other" not in readme


def test_a_private_file_does_not_come_along(image_repository: ImageRepository, public: BareRepository) -> None:
    folder = image_repository.folder("tools/shell")
    image_repository.write(folder / "Dockerfile", "FROM busybox\nCOPY . /all\nRUN mv /all/python /bin/python\n")
    image_repository.write(folder / "Dockerfile.private", "COPY internal.cfg /\n")
    image_repository.write(folder / "internal.cfg", "quiet\n")
    code, _, err = publish(image_repository)
    assert code == 2
    assert "shell/internal.cfg: Dockerfile.private copies it as well (line 1)" in err


def test_a_public_dockerfile_that_needs_its_private_arguments_is_not_published(
    image_repository: ImageRepository, public: BareRepository
) -> None:
    folder = image_repository.folder("apps/other")
    image_repository.write(folder / "Dockerfile", "FROM busybox\nARG CODE\nRUN exit ${CODE:-3}\n")
    image_repository.write(folder / "image.json", '{"build_args": {"CODE": "0"}}')
    code, _, err = publish(image_repository)
    assert code == 1
    assert "does not build alone" in err
    assert public.git("branch", "--list", BRANCH) == ""


def test_somebody_elses_commit_is_not_overwritten(image_repository: ImageRepository, public: BareRepository) -> None:
    assert publish(image_repository)[0] == 0
    theirs = public.commit_on(BRANCH, "more.txt", "more\n")
    image_repository.write(image_repository.folder("tools/shell") / "greeting", "hello again\n")
    code, _, err = publish(image_repository)
    assert code == 2
    assert "the branch has commits of others" in err
    assert public.git("rev-parse", BRANCH) == theirs


def test_what_was_proposed_and_is_not_merged_stays_proposed(
    image_repository: ImageRepository, public: BareRepository
) -> None:
    shell, other = (image_repository.image(name) for name in ("tools/shell", "apps/other"))
    assert publish(image_repository, shell)[0] == 0
    image_repository.write(image_repository.folder("tools/shell") / "greeting", "not released yet\n")
    code, out, err = publish(image_repository, other)
    assert code == 0, out + err
    assert f"{other}/Dockerfile" in public.files(BRANCH)
    assert public.read(BRANCH, f"{shell}/greeting") != "not released yet\n"
    assert f"- {shell}" in public.git("log", "-1", "--format=%b", BRANCH)
    public.git("branch", "-f", "main", BRANCH)  # merged; then a person fixes it there
    public.commit_on("main", f"{shell}/greeting", "fixed\n", "people")
    assert publish(image_repository, other)[0] == 0
    assert public.read("main", f"{shell}/greeting") == "fixed"


def test_files_that_are_gone_are_removed_there_and_those_of_people_stay(
    image_repository: ImageRepository, public: BareRepository
) -> None:
    assert publish(image_repository)[0] == 0
    public.git("branch", "-f", "main", BRANCH)
    family = image_repository.families["tools"]
    public.commit_on("main", "CONTRIBUTING.md", "welcome\n", "people")
    image_repository.write(
        image_repository.folder("tools/shell") / "Dockerfile", "FROM busybox\nCOPY python /bin/python\n"
    )
    image_repository.write(image_repository.folder("apps/hello") / "Dockerfile", "FROM busybox\n")
    code, out, err = publish(image_repository)
    assert code == 0, out + err
    assert f"{family}/shell/greeting" not in public.files(BRANCH)
    assert "CONTRIBUTING.md" in public.files(BRANCH)


def test_release_notes_are_those_of_tags_that_are_served(
    image_repository: ImageRepository,
    public: BareRepository,
    house: House,
    complete_build: Callable[..., ReleaseJson],
) -> None:
    shell = image_repository.image("tools/shell")
    path = f"release-notes/{shell}.md"
    image_repository.commit("settings")  # only what is committed is released

    def published() -> tuple[str, list[str]]:
        code, out, err = publish(image_repository, shell)
        assert code == 0, out + err
        text = public.read(BRANCH, path)
        return text, re.findall(r"^## (\S+)$", text, re.MULTILINE)

    first = complete_build("tools/shell", tag="v1", age=timedelta(hours=1))
    for release in (first, complete_build("tools/shell", tag="v2")):
        house.releaser().release(release)
    text, tags = published()
    assert tags == ["v2", "v1"]
    assert "`latest` is `v2`." in text
    assert f"`registry.example/shell:v1`, `{first.images[0].staging.digest}`" in text
    assert "Changes since `v1`:" in text
    assert f"`v2`, `latest` ([release notes]({path}))" in public.read(BRANCH, "README.md")

    assert image_repository.run("rollback", shell, "--reason", "it is broken").returncode == 0
    assert "`latest` is `v1`." in published()[0]
    assert image_repository.run("withdraw", shell, "v2", "--reason", "it is broken").returncode == 0
    text, tags = published()
    assert (tags, "v2" in text) == (["v1"], False)

    production = house.backends.production
    repository = first.images[0].destinations[0].rpartition(":")[0]
    for tag in ("v1", "latest"):
        production.untag(Reference(production.host, repository, tag))
    assert publish(image_repository, shell)[0] == 0
    assert path not in public.files(BRANCH)


def test_the_table_tells_tags_and_end_of_life(
    image_repository: ImageRepository,
    public: BareRepository,
    busybox: Reference,
    staging: OciRegistry,
    production: OciRegistry,
) -> None:
    suffix = image_repository.families["tools"].removeprefix("tools")
    repository = f"public{suffix}/shell"
    copy_image(staging, production, busybox, repository)
    for tag in ("20261122.v9", "20261122.v10", "latest"):
        production.tag(Reference(production.host, repository, digest=busybox.digest), tag)
    ended = image_repository.folder("apps/other") / "image.json"
    image_repository.write(ended, '{"eol": "2021-04-30"}')
    copy_image(staging, production, busybox, f"public{suffix}/other")
    production.tag(Reference(production.host, f"public{suffix}/other", digest=busybox.digest), "latest")
    code, out, err = publish(image_repository)
    assert code == 0, out + err
    readme = public.read(BRANCH, "README.md")
    assert "| `registry.example/shell` | Busybox |  | `20261122.v10`, `latest` |" in readme
    assert "since 2021-04-30: not built any more" in readme
    assert f"{image_repository.families['apps']}/other/Dockerfile" not in public.files(BRANCH)
