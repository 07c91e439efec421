"""Images for two platforms, of which one is emulated: built, tested on both, released, rolled back, withdrawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aml_images_dagster.builds.artifacts import Artifacts
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.registry.platforms import images_of
from aml_images_dagster.trust.referrers import content_of, listed
from tests.emulators.faulty_registry import Fault, FaultyRegistry
from tests.image_repository import PYTHON, TESTS

if TYPE_CHECKING:
    from aml_images_dagster.registry.oci import OciRegistry
    from tests.image_repository import ImageRepository

pytestmark = [pytest.mark.engine, pytest.mark.e2e, pytest.mark.usefixtures("emulation", "busybox_of_both")]

AMD64, ARM64 = BOTH = ("linux/amd64", "linux/arm64")
EMULATED = {"AML_IMAGES_TEST_EMULATED": "true"}
IS_RIGHT = """case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; esac
echo "built for $(cat /arch), runs on $machine"
[ "$(cat /arch)" = "$machine" ]
"""


@pytest.fixture
def two_platforms(repository: ImageRepository) -> ImageRepository:
    """tools/shell for two platforms, and apps/hello FROM it; apps/other as it is."""
    repository.write_image(
        "tools/shell",
        "FROM tests/busybox\nARG TARGETARCH\nRUN echo $TARGETARCH > /arch; uname -m > /machine\n"
        "COPY --chmod=755 python /bin/python\nCOPY greeting /greeting\n",
    )
    for image in ("tools/shell", "apps/hello"):
        repository.write(repository.folder(image) / "image.json", json.dumps({"platforms": BOTH}))
        tests = {**TESTS, "scenarios": [{"name": "is-right", "kind": "training", "script": "is_right.py"}]}
        repository.write(repository.folder(image) / "tests.json", json.dumps(tests))
    repository.write(repository.root / "checks" / "is_right.py", IS_RIGHT)
    repository.commit("two platforms")
    return repository


def released(production: OciRegistry, image: dict[str, Any]) -> dict[str, list[Reference]]:
    """What production has of an image by its tags: the index, and the images that it refers to."""
    found = {}
    for name in image["destinations"]:
        repository, _, tag = name.rpartition(":")
        tagged = Reference(production.host, repository, tag)
        digest = production.digest(tagged)
        parts = images_of(production, tagged).values() if digest else ()
        found[tag] = [tagged.with_digest(digest), *parts] if digest else []
    return found


def image_of_sbom(registry: OciRegistry, image: Reference) -> str:
    """The digest of the image that the SBOM of an image is about."""
    (sbom,) = [each for each in listed(registry, image) if each.artifact_type == "application/spdx+json"]
    _, content = content_of(registry, image.repository, sbom)
    (root,) = [each for each in json.loads(content)["packages"] if each.get("primaryPackagePurpose") == "CONTAINER"]
    return f"sha256:{root['checksums'][0]['checksumValue']}"


def test_an_image_for_two_platforms_from_its_build_to_its_withdrawal(
    two_platforms: ImageRepository, staging: OciRegistry, production: OciRegistry
) -> None:
    shell, hello, other = (two_platforms.image(image) for image in ("tools/shell", "apps/hello", "apps/other"))
    built = two_platforms.json("build", "--all", "--release-tag", "v1", **EMULATED)
    release = json.loads((two_platforms.artifacts / built["build"] / "release.json").read_text())
    images = {f"{image['family']}/{image['name']}": image for image in release["images"]}
    assert images[other]["platforms"] == []
    for name in (shell, hello):
        image = images[name]
        index = Reference.parse(image["staging"]["reference"])
        parts = {platform: part.digest for platform, part in images_of(staging, index).items()}
        assert {each["platform"]: each["digest"] for each in image["platforms"]} == parts
        assert [(each["platform"], each["tested"]) for each in image["platforms"]] == [(AMD64, True), (ARM64, True)]
        assert [(test["scenario"], test["platform"]) for test in image["tests"]] == [
            ("is-right", AMD64),
            ("is-right", ARM64),
        ]
        for platform, digest in parts.items():
            config = staging.config(index.with_digest(digest))
            assert f"{config['os']}/{config['architecture']}" == platform
        logs = two_platforms.artifacts / built["build"] / ".records" / name / "logs"
        assert (logs / "is-right.linux-arm64.node0.log").read_text() == "built for arm64, runs on arm64\n"
        assert (logs / "is-right.linux-amd64.node0.log").read_text() == "built for amd64, runs on amd64\n"
    assert images[hello]["bases"][0]["digest"] == images[shell]["staging"]["digest"]

    two_platforms.json("release", built["build"])
    for name in (shell, hello):
        digests = [images[name]["staging"]["digest"], *(each["digest"] for each in images[name]["platforms"])]
        of_it = released(production, images[name])
        assert [reference.digest for reference in of_it["v1"]] == digests
        assert of_it["latest"] == of_it["v1"]
        verified = two_platforms.run("verify", str(of_it["latest"][0]))
        assert verified.returncode == 0, verified.stdout + verified.stderr
        by_name = two_platforms.json("verify", name)
        assert (by_name["verified"], by_name["digest"]) == (True, digests[0])
        assert [image_of_sbom(production, part) for part in of_it["latest"][1:]] == digests[1:]

    two_platforms.write(two_platforms.folder("tools/shell") / "greeting", "good day\n")
    two_platforms.commit("greeting")
    second = two_platforms.json("build", shell, "--release-tag", "v2", **EMULATED)
    two_platforms.json("release", second["build"])
    two_platforms.json("rollback", shell, "--reason", "a test")
    assert released(production, images[shell])["latest"][0].digest == images[shell]["staging"]["digest"]
    (newer,) = json.loads((two_platforms.artifacts / second["build"] / "release.json").read_text())["images"]
    withdrawn = released(production, newer)["v2"]
    two_platforms.json("withdraw", shell, "v2", "--reason", "a test")
    assert released(production, newer)["v2"] == []
    assert [production.digest(reference) for reference in withdrawn] == [each.digest for each in withdrawn]

    reused = two_platforms.json("build", shell, hello, "--release-tag", "v3")
    assert {image["image"]: image["reused"] for image in reused["images"]} == {shell: True, hello: False}
    tested = {image["image"]: [test["platform"] for test in image["tests"]] for image in reused["images"]}
    assert tested == {shell: [AMD64, ARM64], hello: [AMD64]}, "what passed by emulation has passed"


def test_a_platform_without_a_test_machine_is_shown_as_not_tested(two_platforms: ImageRepository) -> None:
    shell = two_platforms.image("tools/shell")
    plan = two_platforms.json("build", shell, "--dry-run")["images"][0]
    assert plan["tests"] == {f"is-right ({AMD64})": "run", f"is-right ({ARM64})": "untested"}
    built = two_platforms.json("build", shell)
    (image,) = built["images"]
    assert ([test["platform"] for test in image["tests"]], image["untested"]) == ([AMD64], [ARM64])
    assert f"not tested on {ARM64}" in " ".join(two_platforms.run("status", built["build"]).stdout.split())
    release = json.loads((two_platforms.artifacts / built["build"] / "release.json").read_text())
    assert [each["tested"] for each in release["images"][0]["platforms"]] == [True, False]
    assert f"{shell}: not tested on {ARM64}" in two_platforms.run("release", built["build"], "--dry-run").stdout
    again = two_platforms.json("build", shell)["images"][0]
    assert (again["reused"], again["untested"]) == (True, [ARM64])
    emulated = two_platforms.json("build", shell, **EMULATED)["images"][0]
    assert (emulated["reused"], emulated["untested"]) == (True, [])
    assert [test["platform"] for test in emulated["tests"]] == [AMD64, ARM64]


def test_a_scenario_that_fails_on_one_platform_takes_both_images_back(
    two_platforms: ImageRepository, staging: OciRegistry
) -> None:
    shell = two_platforms.image("tools/shell")
    two_platforms.write(two_platforms.root / "checks" / "is_right.py", '[ "$(uname -m)" = x86_64 ]\n')
    done = two_platforms.run("build", shell, **EMULATED)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"scenario 'is-right' ({ARM64}) failed" in done.stderr
    (build,) = two_platforms.json("builds")
    staged = two_platforms.json("status", build["build"])["images"][0]["staged"]
    digests = [staged["digest"], *(each["digest"] for each in staged["platforms"])]
    assert len(set(digests)) == 3
    index = Reference.parse(staged["reference"])
    assert list(staging.tags(index.repository)) == []
    assert [staging.digest(index.with_digest(digest)) for digest in digests] == [None] * 3


def test_a_push_that_ends_before_the_index_leaves_nothing(
    two_platforms: ImageRepository, staging: OciRegistry, production: OciRegistry
) -> None:
    shell = two_platforms.image("tools/shell")
    with FaultyRegistry(staging.host) as front:
        front.faults.append(Fault("status", "PUT", "/manifests/shell--", status=403))
        two_platforms.configure(front.host, production.host, "public/{name}")
        two_platforms.commit("a registry that refuses")
        done = two_platforms.run("build", shell)
        assert done.returncode == 1, done.stdout + done.stderr
        pushed = [path for method, path in front.seen if method == "PUT" and "/manifests/sha256:" in path]
    (build,) = two_platforms.json("builds")
    parts = Artifacts(str(two_platforms.artifacts)).build(build["build"]).untagged(shell)
    family = Reference(staging.host, shell.partition("/")[0])
    assert {path.rpartition("/")[2] for path in pushed} == set(parts), "the images were there before the index"
    assert [staging.digest(family.with_digest(part)) for part in parts] == [None, None]
    assert list(staging.tags(family.repository)) == []


def test_an_image_with_the_root_of_the_repository_as_its_context(
    repository: ImageRepository, production: OciRegistry
) -> None:
    other = repository.image("apps/other")
    folder = repository.folder("apps/other").relative_to(repository.root)
    private = f"COPY {folder}/LICENSE.txt {folder}/ThirdPartyNotices.txt /\n"
    repository.write_image("apps/other", f"FROM busybox\nCOPY {folder}/python /bin/python\nCOPY shared /shared\n")
    repository.write(repository.root / folder / "Dockerfile.private", private)
    repository.write(repository.root / folder / "image.json", json.dumps({"context": "repository"}))
    repository.write(repository.root / folder / "python", PYTHON)
    repository.write(repository.root / "shared" / "word", "hello\n")
    repository.write(repository.root / "checks" / "runs.py", '[ "$(cat /shared/word)" = hello ]\n')
    repository.commit("the root is the context")
    built = repository.json("build", other, "--release-tag", "v1")
    repository.json("release", built["build"])
    (image,) = json.loads((repository.artifacts / built["build"] / "release.json").read_text())["images"]
    assert [reference.digest for reference in released(production, image)["v1"]][:1] == [image["staging"]["digest"]]
    assert repository.json("build", other)["images"][0]["reused"]
    repository.write(repository.root / "shared" / "word", "hello\n\n")
    (planned,) = repository.json("build", other, "--dry-run")["images"]
    assert (planned["action"], planned["because"]) == ("build", ["context: shared/word changed"])
