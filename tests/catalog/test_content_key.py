"""Whatever decides an image's bytes changes its key; what does not, does not."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.content_key import ContentKey, explain

digests = st.sampled_from([f"sha256:{letter * 64}" for letter in "abc"])
words = st.text("abc=:\"'{},é", max_size=4)
keys = st.builds(
    ContentKey,
    dockerfile=words,
    files=st.dictionaries(words, words, max_size=3),
    build_args=st.dictionaries(words, words, max_size=3),
    platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
    bases=st.dictionaries(words, digests, max_size=3),
    secrets=st.sampled_from([(), ("pip",), ("pip", "ssh")]),
    target=st.sampled_from(["", "runtime"]),
    rewrite_timestamp=st.booleans(),
)


@given(keys, keys)
def test_only_equal_parts_have_equal_keys(one, other):
    assert (one.digest == other.digest) == (one == other)
    assert bool(explain(one, other)) == (one != other)


@given(keys)
def test_order_does_not_matter(key):
    def backwards(parts):
        return dict(reversed(parts.items()))

    other = key.model_copy(update={name: backwards(getattr(key, name)) for name in ("files", "build_args", "bases")})
    assert other.digest == key.digest
    assert explain(key, other) == []


@given(keys)
def test_a_key_can_be_stored(key):
    assert ContentKey.model_validate_json(key.model_dump_json()).digest == key.digest


def test_the_key_does_not_drift():
    """A change of the algorithm throws away everything that was built: it must be a decision, with a new version."""
    key = ContentKey(
        dockerfile="d",
        files={"é": "100644 00"},
        build_args={"A": "1"},
        platform="linux/amd64",
        bases={"b": "sha256:1"},
    )
    canonical = (
        rb'{"bases":{"b":"sha256:1"},"build_args":{"A":"1"},"dockerfile":"d","files":{"\u00e9":"100644 00"},'
        rb'"platform":"linux/amd64","version":1}'
    )
    assert key.digest == hashlib.sha256(canonical).hexdigest()


def test_a_move_between_parts_is_a_change():
    one = ContentKey(dockerfile="", files={"a": "b"}, build_args={}, platform="", bases={})
    other = ContentKey(dockerfile="", files={}, build_args={"a": "b"}, platform="", bases={})
    assert one.digest != other.digest


@pytest.mark.parametrize(
    ("change", "sentences"),
    [
        ({"dockerfile": "x"}, ["Dockerfile changed"]),
        (
            {"files": {"a.txt": "100755 1", "c.txt": "100644 2"}},
            ["context: a.txt changed, b.txt removed, c.txt added"],
        ),
        (
            {"files": {str(n): "x" for n in range(9)}},
            ["context: 0 added, 1 added, 2 added, 3 added, 4 added and 6 more"],
        ),
        ({"build_args": {"A": "2", "B": "1"}}, ["build argument A changed", "build argument B added"]),
        ({"platform": "linux/arm64"}, ["platform linux/amd64 → linux/arm64"]),
        (
            {"bases": {"debian:12": f"sha256:{'b' * 64}"}},
            ["base debian:12 moved sha256:aaaaaaaaaaaa… → sha256:bbbbbbbbbbbb…"],
        ),
        ({"bases": {"debian:13": f"sha256:{'a' * 64}"}}, ["base debian:13 is new", "base debian:12 is gone"]),
        ({"rewrite_timestamp": True}, ["rewrite_timestamp set"]),
        ({"version": 2}, ["content keys are computed in another way since"]),
        ({}, []),
    ],
)
def test_explanations(change, sentences):
    old = ContentKey(
        dockerfile="d",
        files={"a.txt": "100644 1", "b.txt": "100644 2"},
        build_args={"A": "1"},
        platform="linux/amd64",
        bases={"debian:12": f"sha256:{'a' * 64}"},
    )
    assert explain(old, old.model_copy(update=change)) == sentences


def test_a_dockerfile_that_is_in_the_context_is_named_once():
    old = ContentKey(dockerfile="1", files={"Dockerfile": "1", "a": "1"}, build_args={}, platform="", bases={})
    changed = old.model_copy(update={"dockerfile": "2", "files": {"Dockerfile": "2", "a": "1"}})
    assert explain(old, changed, "Dockerfile") == ["Dockerfile changed"]
    with_other = changed.model_copy(update={"files": {"Dockerfile": "2", "a": "2"}})
    assert explain(old, with_other, "Dockerfile") == ["Dockerfile changed", "context: a changed"]
    of_another = explain(old, changed, "sub/Dockerfile")
    assert of_another == ["Dockerfile changed", "context: Dockerfile changed"]
    assert explain(old, changed.model_copy(update={"dockerfile": "1"}), "Dockerfile") == ["context: Dockerfile changed"]


def test_secrets_count_by_name_and_images_without_keep_their_key():
    one = ContentKey(dockerfile="", files={}, build_args={}, platform="linux/amd64", bases={})
    parts = one.model_dump(exclude={"secrets", "target", "rewrite_timestamp"})
    before = hashlib.sha256(json.dumps(parts, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    assert one.digest == before
    other = one.model_copy(update={"secrets": ("pip", "ssh")})
    assert other.digest != one.digest
    assert explain(one, other) == ["secret pip added", "secret ssh added"]
    assert explain(other, one) == ["secret pip removed", "secret ssh removed"]
