"""The packages that the requirement files of an image folder name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.requirements import required_packages
from aml_images_dagster.catalog.tree import WorkingTree

if TYPE_CHECKING:
    from pathlib import Path

CONDA = """
name: project
dependencies:
  - python=3.10
  - conda-forge::NumPy >=1.26
  - pip:
      - azureml_core==1.60
      - -r other.txt
  - {unknown: [x]}
"""


def named(root: Path, **files: str) -> set[str]:
    """What these files, whose names have `__` for a dot, make a folder require."""
    folder = root / "images" / "base" / "cpu"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM debian:12\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    tree = WorkingTree(root)
    return set(required_packages(tree, Catalog.load(tree, "images", ()).get("base/cpu")))


def test_requirements_of_pip(tmp_path: Path) -> None:
    text = (
        "# a remark\n-r other.txt\nNumPy==2.4.6  # pinned\nscikit_learn[all] >=1.9; python_version > '3.8'\n"
        "pandas==3.1 \\\n    --hash=sha256:abc\n\ntorch @ https://example.test/torch.whl\n./local\nnot a requirement\n"
    )
    assert named(tmp_path, requirements__txt=text) == {"numpy", "scikit-learn", "pandas", "torch"}


def test_every_file_that_is_called_requirements(tmp_path: Path) -> None:
    assert named(tmp_path, requirements_gpu__txt="a\n", test_requirements__txt="b\n", notes__txt="c\n") == {"a", "b"}


def test_a_conda_environment(tmp_path: Path) -> None:
    assert named(tmp_path, environment__yml=CONDA) == {"python", "numpy", "azureml-core"}


def test_other_yaml_and_broken_yaml_name_nothing(tmp_path: Path) -> None:
    assert named(tmp_path, a__yaml="- 1\n", b__yml="dependencies: [unclosed\n", c__yml="dependencies: 5\n") == set()
