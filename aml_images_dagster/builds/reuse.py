"""What need not be made again: an image that passed with the same content key and is still in staging.

Staging cannot delete an image on the condition that it has no tag. So who takes an image over tags it and then asks
whether it is still reusable, and who deletes one forgets it and then looks for tags: whichever comes first, the other
sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aml_images_dagster.builds.naming import CONTENT_KEY_LABEL
from aml_images_dagster.catalog.content_key import explain
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from aml_images_dagster.builds.parts import Parts
    from aml_images_dagster.builds.recipe import Recipe
    from aml_images_dagster.builds.records import PassedImage
    from aml_images_dagster.builds.session import BuildSession
    from aml_images_dagster.catalog.content_key import ContentKey
    from aml_images_dagster.catalog.image import Image


def reusable(key: ContentKey, image: Image, parts: Parts) -> PassedImage | None:
    """The image that passed with this key and is still in staging; None when it must be built."""
    passed = parts.artifacts.read_passed(key.digest)
    if passed is None or passed.staged.image != image.id:
        return None
    reference = Reference(parts.staging.host, image.family, digest=passed.staged.digest)
    return passed if parts.staging.digest(reference) else None


def why_built(session: BuildSession, recipe: Recipe) -> tuple[str, ...]:
    """Why an image is built although its name may have passed before. What its build has yet to make counts as new."""
    if session.force:
        return ("forced",)
    rebuilt = {base.reference: base.image for base in recipe.bases if not base.digest}
    because = tuple(f"its base {parent} is rebuilt" for parent in dict.fromkeys(rebuilt.values()))
    last = session.parts.artifacts.read_last_passed(recipe.image.id)
    if last is None:
        return ("no build of it has passed yet", *because)
    before = last.staged.content_key
    known = {**recipe.key.bases, **{reference: before.bases.get(reference, "") for reference in rebuilt}}
    because = (*explain(before, recipe.key.model_copy(update={"bases": known})), *because)
    return because or ("it passed before, but staging no longer holds it",)


def forget(image: Reference, parts: Parts) -> None:
    """Let no build take an image over any more.

    Args:
        image: By digest, in staging. Its label names its content key, whatever has become of the build's records.
        parts: Staging and the artifacts store.
    """
    try:
        config = parts.staging.config(image)
    except (BadInput, ValueError):  # it has gone meanwhile, or is none of ours
        return
    labels = (config.get("config") or {}).get("Labels") or {}
    if key := labels.get(CONTENT_KEY_LABEL):
        parts.artifacts.forget_passed(key, image.digest)
