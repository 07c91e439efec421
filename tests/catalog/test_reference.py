from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

DIGEST = "sha256:" + "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("debian", "docker.io", "library/debian", "", ""),
        ("debian:12", "docker.io", "library/debian", "12", ""),
        ("docker.io/debian", "docker.io", "library/debian", "", ""),
        ("index.docker.io/a/b", "docker.io", "a/b", "", ""),
        ("a/b/c:1", "docker.io", "a/b/c", "1", ""),
        ("localhost/a", "localhost", "a", "", ""),
        ("localhost:5000", "docker.io", "library/localhost", "5000", ""),
        ("localhost:5000/a", "localhost:5000", "a", "", ""),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b", "1", ""),
        ("[::1]:5000/a", "[::1]:5000", "a", "", ""),
        ("mcr.microsoft.com/a/b@" + DIGEST, "mcr.microsoft.com", "a/b", "", DIGEST),
        ("a.b/c:1@" + DIGEST, "a.b", "c", "1", DIGEST),
        ("a__b/c--d/e.f_g", "docker.io", "a__b/c--d/e.f_g", "", ""),
        ("HOST/a", "HOST", "a", "", ""),
    ],
)
def test_parts(text: str, registry: str, repository: str, tag: str, digest: str) -> None:
    assert Reference.parse(text) == Reference(registry, repository, tag, digest)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "a:",
        "a@",
        "a@sha256:0",
        "@" + DIGEST,
        "A",
        "a/B",
        "a b",
        "a\n",
        "a/",
        "/a",
        "a//b",
        "-a",
        "a-",
        "a___b",
        "a..b",
        "a..b/c.d/e",
        "a.-b.c/d",
        "http://a/b",
        "a:1:2",
        "a:-1",
        "a:" + "1" * 129,
        "a@" + DIGEST + "@" + DIGEST,
        "a@" + DIGEST.upper(),
        "a@md5:" + "0" * 32,
        "0" * 64,
        "a.b/" + "c" * 256,
        "a:5000x/b",
        "$A",
        "ä",
    ],
)
def test_no_reference(text: str) -> None:
    with pytest.raises(BadInput) as caught:
        Reference.parse(text)
    assert repr(text) in caught.value.what


@settings(deadline=None)
@given(st.one_of(st.text(), st.text("ab0A.:/@_-[]", max_size=20)))
def test_any_text_is_normalised_once_or_refused(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except BadInput:
        return
    assert Reference.parse(str(reference)) == reference


@settings(deadline=None)
@given(
    st.from_regex(
        r"[a-z0-9]{1,5}(\.[a-z]{1,3})?(:[0-9]{1,5})?/[a-z0-9]+([._-][a-z0-9]+)*(:[\w]{1,9})?\Z", fullmatch=True
    )
)
def test_tag_and_digest_replace_each_other(text: str) -> None:
    try:
        reference = Reference.parse(text)
    except BadInput:
        return
    assert reference.version == (reference.tag or "latest")
    pinned = reference.with_digest(DIGEST)
    assert (pinned.name, pinned.version, str(pinned)) == (reference.name, DIGEST, f"{reference.name}@{DIGEST}")
    assert Reference.parse(str(pinned.with_tag("1"))).version == "1"


@pytest.mark.parametrize(
    ("text", "tags", "newest"),
    [
        ("a.example/x:{{latest-image-tag}}", ["1", "2"], "latest"),
        (
            r"a.example/x:{{latest-image-tag:biweekly\.\d{6}\.\d{1}.*}}",
            ["biweekly.202510.1", "latest"],
            "biweekly.202510.1",
        ),
        (
            r"a.example/x:{{latest-image-tag:\d+\.v\d+}}",
            ["20261101.v9", "20261101.v10", "20261031.v99", "x"],
            "20261101.v10",
        ),
        (r"a.example/x:{{latest-image-tag:9\.0.*}}", ["8.0", "latest"], None),
        ("a.example/x:3", ["4"], "3"),
        ("a.example/x", ["4"], "latest"),
    ],
)
def test_a_template_stands_for_the_newest_tag(text, tags, newest):
    reference = Reference.parse(text)
    assert str(reference) == text
    assert (reference.name, reference.newest(tags)) == ("a.example/x", newest)


@pytest.mark.parametrize(
    "tag",
    [
        *("{{newest}}", "{{latest-image-tag", "{{latest-image-tag:}}", "{{latest-image-tag:[}}"),
        *("{{latest-image-tag:(a+)+}}", "{{latest-image-tag:.*.*.*.*}}", "{{latest-image-tag}}-x"),
        "{{latest-image-tag:a|b}}",
    ],
)
def test_templates_that_are_none_are_refused(tag):
    with pytest.raises(BadInput) as error:
        Reference.parse(f"a.example/x:{tag}")
    assert "{{latest-image-tag}}" in error.value.hint
