"""Names of image folders fit registries, or say why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.image_name import name_fault, plain_name
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("base", "intelmpi2018.3-ubuntu16.04"),
        ("base-gpu", "openmpi3.1.2-cuda10.0-cudnn7-ubuntu16.04"),
        ("base_x", "a__b"),
        ("b", "3.5dotnet-ltsc2019"),
        ("f" * 64, "n" * 109),
    ],
)
def test_good_names(family, name):
    assert name_fault(family, name) is None


@pytest.mark.parametrize(
    ("family", "name", "fault"),
    [
        ("Base", "x", "family name 'Base'"),
        ("base", "X", "image name 'X'"),
        ("base", "a b", "image name 'a b'"),
        ("base", "a..b", "image name"),
        ("base", "-a", "image name"),
        ("base", "a.", "image name"),
        ("base", "ä", "image name"),
        ("base", "a--b", "contains '--'"),
        ("base", "n" * 110, "109 fit"),
        ("", "x", "family name ''"),
    ],
)
def test_bad_names(family, name, fault):
    assert fault in name_fault(family, name)


@given(st.text("abAB01.-_/ é", max_size=8), st.text("abAB01.-_/ é", max_size=8))
def test_good_names_make_good_references(family, name):
    if name_fault(family, name) is None:
        Reference.parse(f"127.0.0.1:5000/{family}:{name}--20261123.4f2a9c1e")
        Reference.parse(f"mcr.microsoft.com/azureml/{name}:20261123.v1")
    elif "/" not in family + name and "--" not in name:
        with pytest.raises(BadInput):
            Reference.parse(f"h.io/{family or ' '}/{name or ' '}")


def test_plain_names_show_clashes():
    assert plain_name("base", "a.b") == plain_name("base", "a-b")
    assert plain_name("base", "gpu-x") == plain_name("base-gpu", "x")
    assert plain_name("base", "ab") != plain_name("base", "a-b")
