from __future__ import annotations

import pytest

from aml_images_dagster.catalog.published import PublishedNames
from aml_images_dagster.errors import BadInput


def image(family: str, name: str, **fields: str) -> dict[str, str]:
    return {"family": family, "name": name, **fields}


IMAGES = [image("base", "ubuntu"), image("base", "debian"), image("gpu", "ubuntu-cuda")]


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("mcr.microsoft.com/azureml/ubuntu", "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu:latest", "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu-cuda", "gpu/ubuntu-cuda"),
        ("mcr.microsoft.com/azureml/ubuntu-cud", None),
        ("mcr.microsoft.com/azureml/x/ubuntu", None),
        ("mcr.microsoft.com:443/azureml/ubuntu", None),
        ("ubuntu", None),
    ],
)
def test_by_name(reference: str, image: str | None) -> None:
    assert PublishedNames(["mcr.microsoft.com/azureml/{name}"], IMAGES).resolve(reference) == image


@pytest.mark.parametrize(
    ("reference", "image"),
    [
        ("mcr.microsoft.com/azureml/ubuntu:20261123.v1", "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu:20261123.v1@sha256:" + "0" * 64, "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu:latest@sha256:" + "0" * 64, "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu@sha256:" + "0" * 64, "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubuntu:{{latest-image-tag:2025.*}}", "base/ubuntu"),
        ("mcr.microsoft.com/azureml/ubnutu:20261123.v1", None),
        ("ubuntu:20261123.v1", None),
        ("quay.io/jupyter/base:debian@sha256:" + "0" * 64, "base/debian"),
        ("quay.io/jupyter/base:other@sha256:" + "0" * 64, None),
    ],
)
def test_c7_one_release_is_not_followed(reference: str, image: str | None) -> None:
    names = PublishedNames(["mcr.microsoft.com/azureml/{name}", "quay.io/jupyter/{family}:{name}"], IMAGES)
    assert names.release(reference) == image
    assert names.resolve(reference) is None


@pytest.mark.parametrize("tag", ["", ":latest", ":{{latest-image-tag}}", r":{{latest-image-tag:\d{8}\.v\d+}}"])
def test_c7_what_every_release_fits_is_followed(tag: str) -> None:
    names = PublishedNames(["mcr.microsoft.com/azureml/{name}"], IMAGES)
    assert names.resolve(f"mcr.microsoft.com/azureml/ubuntu{tag}") == "base/ubuntu"
    assert names.release(f"mcr.microsoft.com/azureml/ubuntu{tag}") is None


def test_docker_hub_names_are_normalised() -> None:
    names = PublishedNames(["mine/{name}", "{family}-{name}"], IMAGES)
    for reference in ("mine/debian", "docker.io/mine/debian:latest", "index.docker.io/mine/debian"):
        assert names.resolve(reference) == "base/debian"
    for reference in ("base-debian", "library/base-debian", "docker.io/library/base-debian"):
        assert names.resolve(reference) == "base/debian"


def test_a_tag_counts_when_the_pattern_has_one() -> None:
    names = PublishedNames(["quay.io/jupyter/{family}:{name}"], IMAGES)
    assert names.resolve("quay.io/jupyter/base:debian") == "base/debian"
    assert names.resolve("quay.io/jupyter/base:other") is None
    assert names.resolve("quay.io/jupyter/base") is None
    assert PublishedNames(["quay.io/{name}:latest"], IMAGES).resolve("quay.io/debian") == "base/debian"


@pytest.mark.parametrize(
    ("pattern", "reference", "image"),
    [
        ("mcr.microsoft.com/azureml/{name}", "mcr.microsoft.com/azureml/ubnutu:latest", "base/ubuntu"),
        (
            "mcr.microsoft.com/azureml/{name}",
            "mcr.microsoft.com/azureml/ubuntu-cud@sha256:" + "0" * 64,
            "gpu/ubuntu-cuda",
        ),
        ("mcr.microsoft.com/azureml/{name}", "mcr.microsoft.com/azureml/zzz", ""),
        ("mcr.microsoft.com/azureml/{name}", "mcr.microsoft.com/azureml/x/ubuntu", None),
        ("mcr.microsoft.com/azureml/{name}", "mcr.microsoft.com/ubuntu", None),
        ("mine/{name}", "mine/debain", "base/debian"),
        ("{family}-{name}", "bsae-debian", "base/debian"),
        ("quay.io/jupyter/{family}:{name}", "quay.io/jupyter/base:debain", "base/debian"),
        ("quay.io/jupyter/{family}:{name}", "quay.io/jupyter/base", ""),
        ("quay.io/{name}:latest", "quay.io/debain", "base/debian"),
    ],
)
def test_the_nearest_to_a_misspelling(pattern: str, reference: str, image: str | None) -> None:
    assert PublishedNames([pattern], IMAGES).nearest(reference) == image


@pytest.mark.parametrize(
    ("reference", "doubt"),
    [
        ("base/ubuntu:latest", "FROM names base/ubuntu of this repository as quay.io/mine/ubuntu (published-as)"),
        ("docker.io/gpu/ubuntu-cuda", "FROM names gpu/ubuntu-cuda of this repository as quay.io/mine/ubuntu-cuda"),
        ("quay.io/mine/debain", "no image folder is published as quay.io/mine/debain; did you mean base/debian?"),
        ("quay.io/mine/zzz", "no image folder is published as quay.io/mine/zzz; is it published from elsewhere?"),
        ("ubuntu:24.04", ""),
        ("base/other", ""),
    ],
)
def test_what_may_mean_an_image_of_the_repository(reference: str, doubt: str) -> None:
    names = PublishedNames(["quay.io/mine/{name}"], IMAGES)
    said = names.doubt(reference, is_nowhere=True)
    assert said.startswith(doubt)
    assert bool(said) == bool(doubt)
    assert names.doubt(reference) == ("" if said.startswith("FROM") else said), "others may have it"


def test_two_images_under_one_name() -> None:
    names = PublishedNames(["quay.io/{name}"], [*IMAGES, image("gpu", "ubuntu")])
    assert names.resolve("quay.io/debian") == "base/debian"
    with pytest.raises(BadInput, match=r"quay\.io/ubuntu:1 is the published name of base/ubuntu and gpu/ubuntu"):
        names.resolve("quay.io/ubuntu:1")


def test_patterns_that_give_the_same_name() -> None:
    assert PublishedNames(["mine/{name}", "docker.io/mine/{name}"], IMAGES).resolve("mine/ubuntu") == "base/ubuntu"


def test_a_folder_that_no_reference_can_name() -> None:
    assert (
        PublishedNames(["quay.io/{name}"], [image("base", "Ubuntu"), *IMAGES]).resolve("quay.io/ubuntu")
        == "base/ubuntu"
    )


def test_fields_of_the_layout_and_versions_that_only_the_tag_knows() -> None:
    noble, chiseled = (image("runtime", f"9.0-{os}", version="9.0", os=os) for os in ("noble", "noble-chiseled"))
    pattern = "mcr.microsoft.com/dotnet/{family}:{version}*-{os}"
    names = PublishedNames([pattern], [noble, chiseled, image("base", "x")], ["family", "name", "version", "os"])
    assert names.of("runtime/9.0-noble") == ("mcr.microsoft.com/dotnet/runtime:9.0*-noble",)
    assert names.of("base/x") == ()
    assert names.resolve("mcr.microsoft.com/dotnet/runtime:9.0.19-noble") == "runtime/9.0-noble"
    assert names.resolve("mcr.microsoft.com/dotnet/runtime:9.0.19-noble-chiseled") == "runtime/9.0-noble-chiseled"
    assert names.resolve("mcr.microsoft.com/dotnet/runtime:8.0.19-noble") is None
    assert names.nearest("mcr.microsoft.com/dotnet/runtime:8.0.19-noble") == ""
    assert names.nearest("mcr.microsoft.com/other:8.0.19-noble") is None


@pytest.mark.parametrize(
    "pattern",
    [
        "quay.io/x",
        "",
        "quay.io/{nome}",
        "quay.io/{name",
        "quay.io/{name}}",
        "quay.io/{}",
        "quay.io/{0}/{name}",
        "quay.io/{name!r}",
        "quay.io/{name:>3}",
        "quay.io/{name.x}",
        "Quay/X/{name}",
        "quay.io/{{name}}",
        "{name}:{name}:1",
        "quay.io/{name}@sha256:" + "0" * 64,
        "quay.io/*/{name}",
        "quay.io/{name}*:x",
        "quay.io/{family}:x",
    ],
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(BadInput) as caught:
        PublishedNames([pattern], [])
    assert repr(pattern) in caught.value.where
    assert "{name}" in caught.value.hint
