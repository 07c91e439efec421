"""Case C10: what buildx writes of its push is checked as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from aml_images_dagster.engine.buildkit.builder import _digest_in
from aml_images_dagster.errors import BuildFailed

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = f"sha256:{'1' * 64}"


def test_c10_the_digest_that_buildx_pushed(tmp_path: Path) -> None:
    file = tmp_path / "metadata.json"
    file.write_text(f'{{"containerimage.digest": "{DIGEST}", "other": 5}}')
    assert _digest_in(file, "registry/tag") == DIGEST


@pytest.mark.parametrize(
    "written",
    [
        *(b"", b"null", b"[]", b"5", b"{}", b"\xff", b"[" * 100_000, b'{"containerimage.digest": null}'),
        *(b'{"containerimage.digest": "garbage"}', b'{"containerimage.digest": ["sha256"]}', None),
        f'{{"containerimage.digest": "{DIGEST}0"}}'.encode(),
    ],
)
def test_c10_what_is_no_digest_is_an_error(tmp_path: Path, written: bytes | None) -> None:
    file = tmp_path / "metadata.json"
    if written is not None:
        file.write_bytes(written)
    with pytest.raises(BuildFailed, match="does not say what it pushed"):
        _digest_in(file, "registry/tag")
