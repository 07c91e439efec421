"""What image.json declares to be in an image."""

from __future__ import annotations

import json

import pytest

from aml_images_dagster.catalog.image_file import Content, ImageFile
from aml_images_dagster.catalog.validated_file import read_model_file

OPENBLAS = {"name": "OpenBLAS", "version": "0.3.29", "licence": "BSD-3-Clause", "path": "/opt/numpy.libs"}


def read(*contents, **keys):
    return read_model_file(ImageFile, json.dumps({"contains": contents} | keys).encode(), "image.json")


def test_a_content_is_read():
    image, wrong = read(OPENBLAS)
    assert wrong == ()
    assert image.contains == (Content(**OPENBLAS),)
    assert image.contains[0].type == "generic"


def test_a_variant_may_have_its_own_contents():
    own = OPENBLAS | {"version": "1"}
    image, wrong = read(OPENBLAS, variants={"a": {"contains": [own]}, "b": {}})
    assert wrong == ()
    assert [image.of_variant(key).contains[0].version for key in "ab"] == ["1", "0.3.29"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "BSD"}, "not an SPDX expression"),
        ({"licence": "Apache 2"}, "not an SPDX expression"),
        ({"path": ""}, "neither path nor reason is there"),
        ({"version": ""}, "version"),
        ({"type": "No Type"}, "type"),
        ({"license": "MIT"}, "license"),
    ],
)
def test_what_is_wrong_with_a_content_is_said(change, message):
    image, wrong = read(OPENBLAS | change)
    assert image is None
    assert any(message in finding.message for finding in wrong), wrong
