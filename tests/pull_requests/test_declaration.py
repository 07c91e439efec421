"""What Dagster shows of an image that only a pull request has."""

from __future__ import annotations

from markdown_it import MarkdownIt

from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.pull_requests.declaration import DeclaredImage, with_declared
from tests.hostile_text import HOSTILE, active_in


def declared(description: str) -> DeclaredImage:
    return DeclaredImage(
        family="apps",
        name="new",
        path="images/apps/new",
        os="linux",
        platform="linux/amd64",
        parents=(),
        settings=ImageFile(description=description),
        tests=None,
    )


def test_its_description_is_nothing_but_code() -> None:
    evil = f"[click](http://evil) ![](http://evil/x.png) ` <img src=x> {HOSTILE}"
    (image,) = with_declared([], [declared(evil)])
    (paragraph,) = [token for token in MarkdownIt().parse(image.settings.description) if token.type == "inline"]
    assert [token.type for token in paragraph.children or []] == ["code_inline"]
    assert not active_in(image.settings.description)


def test_without_a_description_it_has_none() -> None:
    (image,) = with_declared([], [declared("")])
    assert image.settings.description == ""
