"""Bringing an image from one real registry into another."""

from __future__ import annotations

import pytest

from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput
from aml_images_dagster.registry.importer import CopyingImporter

pytestmark = pytest.mark.engine


def test_a_tag_moves_only_when_it_may(staging, production, push_new_image, repository):
    first, second = (push_new_image(repository, tag) for tag in ("1", "2"))
    importer = CopyingImporter(staging, production)
    tag = Reference(production.host, f"{repository}/released", "20261123.v1")
    for _ in range(2):  # done already is done
        importer.import_image(first.with_digest(first.digest), tag, replace=False)
        assert production.digest(tag) == first.digest
    with pytest.raises(BadInput, match="A released tag never moves"):
        importer.import_image(second.with_digest(second.digest), tag, replace=False)
    assert production.digest(tag) == first.digest
    importer.import_image(second.with_digest(second.digest), tag, replace=True)
    assert production.digest(tag) == second.digest
