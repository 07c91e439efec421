"""`image.json`: what a Dockerfile cannot say about an image. The file is optional, and so is every key."""

from __future__ import annotations

from datetime import date  # noqa: TC003 - pydantic reads the annotation
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from aml_images_dagster.catalog.validated_file import StrictModel
from aml_images_dagster.licences import is_valid
from aml_images_dagster.messages import form

# Every owner that this lets through must be one for Dagster too, which else refuses to load any image.
_OWNER = form(
    r"^(team:\S+|[A-Za-z0-9_][A-Za-z0-9._%+-]*@[A-Za-z0-9.-]+\.[A-Za-z]{2,7})$", "an e-mail address or team:NAME"
)
Owner = Annotated[str, Field(pattern=_OWNER)]
Platform = Literal["linux/amd64", "linux/arm64", "windows/amd64"]


def _spdx_expression(text: str) -> str:
    if not is_valid(text):
        raise ValueError("not an SPDX expression; write e.g. MIT, Apache-2.0 OR MIT, or LicenseRef-NAME")
    return text


_SECRET_ID = form(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", "letters, digits, _ . and -, beginning with a letter or a digit")
SecretId = Annotated[str, Field(pattern=_SECRET_ID, max_length=100)]


class Content(StrictModel):
    """Something in an image that no package manager knows: a library inside of a wheel, a download of RUN."""

    name: str = Field(pattern=r"^[A-Za-z0-9@_]", max_length=200, description="Its name, as its project writes it.")
    version: str = Field(min_length=1, max_length=200, description="Its version.")
    type: str = Field(
        default="generic",
        pattern=form(r"^[a-z][a-z0-9.-]*$", "lower-case letters, digits, . and -, beginning with a letter"),
        description="Type of its package URL, e.g. generic, github, pypi.",
    )
    licence: Annotated[str, AfterValidator(_spdx_expression)] = Field(
        description="An SPDX expression, e.g. BSD-3-Clause; LicenseRef-NAME for a licence that SPDX does not list."
    )
    path: str = Field(
        default="", max_length=1000, description="File or folder of it in the image; then its files are known."
    )
    reason: str = Field(default="", max_length=300, description="How it came there, where there is no path.")

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if not self.path and not self.reason:
            raise ValueError("neither path nor reason is there; say where it is, or how it came into the image")
        return self


class _ImageKeys(StrictModel):
    """What may be said of all images of a folder, and of each variant."""

    description: str = Field(
        default="", max_length=300, description="One sentence; shown in the UI and in README tables."
    )
    platform: Platform | None = Field(
        default=None,
        description="Platform of the image; default: linux/amd64, or windows/amd64 for a Windows base.",
    )
    platforms: tuple[Platform, ...] = Field(
        default=(),
        description="Several platforms of one image, instead of platform: an index of an image for each.",
    )
    build_args: dict[str, str] = Field(
        default_factory=dict, description="Values for ARG. No secrets: they are visible in the image."
    )
    target: str = Field(
        default="",
        max_length=100,
        pattern=form(r"^([A-Za-z][A-Za-z0-9._-]*)?$", "the name of a stage, from FROM … AS NAME"),
        description="Stage of the Dockerfile that makes the image, as its FROM … AS names it; default: the last one.",
    )
    secrets: tuple[SecretId, ...] = Field(
        default=(),
        description="Secrets that RUN --mount=type=secret,id=… may read, by id; the setting build_secrets names where "
        "their values come from. Builds of pull requests get none.",
    )
    ssh: bool = Field(
        default=False,
        description="Whether RUN --mount=type=ssh may use the ssh agent of the user who builds. Not in pull requests.",
    )
    rewrite_timestamp: bool = Field(
        default=False,
        description="Whether no file is later than the commit, so that it makes the same digest again. Python then "
        "takes byte code for outdated that pip has made.",
    )
    size_budget_mb: int | None = Field(
        default=None, ge=1, description="Compressed size in 10^6 bytes, on each platform, above which a check warns."
    )
    eol: date | None = Field(
        default=None, description="End of life: from this day on the image is built only if it is named."
    )

    contains: tuple[Content, ...] = Field(
        default=(),
        max_length=200,
        description="What is in the image and in no package: libraries inside of wheels, downloads of RUN. The image's "
        "inventory and SBOM list it.",
    )

    @model_validator(mode="after")
    def _one_list_of_platforms(self) -> Self:
        if self.platform and self.platforms:
            raise ValueError("platform and platforms are both there; write one of them")
        if len(set(self.platforms)) < len(self.platforms):
            raise ValueError("a platform is there twice")
        if len({platform.partition("/")[0] for platform in self.platforms}) > 1:
            raise ValueError("one image cannot be for Linux and for Windows")
        return self


class Variant(_ImageKeys):
    """One of several images of a folder. What it leaves out is as the rest of the file says; build_args are joined."""

    name: str = Field(default="", description="Name of the image; default: that of the folder, - and the variant's.")
    base: str = Field(
        default="", description="Image that it is built FROM, instead of the one that the stage that makes it is."
    )
    tests: str = Field(
        default="",
        pattern=form(r"^(tests\.[A-Za-z0-9._-]+\.json)?$", "tests.SOMETHING.json"),
        description="File of the folder with its scenarios, named tests.SOMETHING.json; default: tests.json.",
    )


class ImageFile(_ImageKeys):
    """The whole of an image.json."""

    owners: tuple[Owner, ...] = Field(default=(), description="E-mail addresses, or team:NAME.")
    context: str = Field(
        default="",
        max_length=300,
        description="Build context: folder, repository, a path from the Dockerfile's folder such as .., or /PATH from "
        "the root of the repository; default: the setting context.",
    )
    variants: dict[Annotated[str, Field(min_length=1)], Variant] = Field(
        default_factory=dict, description="Several images of one folder, by the name of the variant."
    )

    def of_variant(self, key: str) -> ImageFile:
        """The file as it is for one of the variants alone."""
        variant = self.variants[key]
        said = {name: getattr(variant, name) for name in variant.model_fields_set & _ImageKeys.model_fields.keys()}
        if {"platform", "platforms"} & said.keys():
            said = {"platform": variant.platform, "platforms": variant.platforms, **said}
        said["build_args"] = {**self.build_args, **variant.build_args}
        return self.model_copy(update={**said, "variants": {}})
