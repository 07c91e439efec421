"""The packages that the requirement files of an image folder name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.requirements import pinned_packages, required_packages
from aml_images_dagster.catalog.tree import WorkingTree

if TYPE_CHECKING:
    from pathlib import Path

    from aml_images_dagster.catalog.image import Image

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


def folder_of(root: Path, **files: str) -> tuple[WorkingTree, Image]:
    """A folder with these files, whose names have `__` for a dot."""
    folder = root / "images" / "base" / "cpu"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM debian:12\n")
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    tree = WorkingTree(root)
    return tree, Catalog.load(tree, "images", ()).get("base/cpu")


def named(root: Path, **files: str) -> set[str]:
    """What such a folder requires."""
    return set(required_packages(*folder_of(root, **files)))


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


def test_what_is_pinned_has_exactly_one_version(tmp_path: Path) -> None:
    text = "NumPy==2.4.6\ntorch == 2.5.1+cpu\npandas>=3\nscipy==1.*\nplain\nlocal===1-odd\n"
    environment = "dependencies: [python=3.10, pytz==2026.1, mkl==2*, {pip: [joblib==1.6]}]\n"
    pins = pinned_packages(*folder_of(tmp_path, requirements__txt=text, conda__yml=environment))

    assert {name: str(versions) for name, versions in pins.items()} == {
        "numpy": "==2.4.6",
        "torch": "==2.5.1+cpu",
        "local": "===1-odd",
        "pytz": "==2026.1",
        "joblib": "==1.6",
    }
