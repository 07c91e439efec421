"""Validation: everything that is wrong or doubtful about image folders, all at once and before anything is built."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from datetime import UTC, date, datetime
from itertools import chain, islice
from types import MappingProxyType
from typing import TYPE_CHECKING

from aml_images_dagster.catalog.builder_features import (
    CLASSIC,
    REWRITE_TIMESTAMP,
    SEVERAL_PLATFORMS,
    asks_for_more,
    is_dockerfile_frontend,
    mirrored_frontend,
    usual_features,
)
from aml_images_dagster.catalog.context import context_faults, read_ahead
from aml_images_dagster.catalog.context_files import ContextFiles
from aml_images_dagster.catalog.dockerfile import (
    installs,
    instruction_faults,
    is_literal,
    odd_blanks,
    remote_sources,
)
from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.graph import all_cycles
from aml_images_dagster.catalog.image import (
    FACTORY_FILES,
    LICENSE_FILE,
    NOTICES_FILE,
    TESTS_FILE,
)
from aml_images_dagster.catalog.image_name import group_name, name_fault, plain_name
from aml_images_dagster.catalog.notices import check_notices, head_of, says_nothing_added
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.catalog.tests_file import scenario_path
from aml_images_dagster.catalog.tree import FileMode
from aml_images_dagster.catalog.validated_file import json_lines
from aml_images_dagster.catalog.windows import HOST_BUILDS
from aml_images_dagster.errors import BadInput
from aml_images_dagster.messages import lower_first

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from typing import Literal

    from aml_images_dagster.catalog.builder_features import BuilderFeatures
    from aml_images_dagster.catalog.catalog import Catalog
    from aml_images_dagster.catalog.finding import Severity
    from aml_images_dagster.catalog.image import Image
    from aml_images_dagster.catalog.tree import Tree

    FeaturesOf = Callable[[Literal["linux", "windows"]], BuilderFeatures]


def validate(
    catalog: Catalog,
    tree: Tree,
    ids: Collection[str] | None = None,
    *,
    publishes: bool = True,
    today: date | None = None,
    features_of: FeaturesOf = usual_features,
    frontends: Mapping[str, str] = MappingProxyType({}),
) -> list[Finding]:
    """Look for everything that would make a build fail late, or that a reviewer should know.

    Args:
        catalog: The images.
        tree: The tree that the catalog was loaded from.
        ids: Which images; None takes all.
        publishes: Whether the public part is published somewhere: then it is a mistake when something of it is missing.
        today: The day by which images are past their end of life; default: today in UTC.
        features_of: What the builder of an operating system can do.
        frontends: Mirrors of the frontends that `# syntax=` may name.

    Returns:
        Findings, sorted by image, file and line.
    """
    day = today or datetime.now(UTC).date()
    existing = _files_and_folders(tree)
    clashes = _clashes(catalog)
    cycles = all_cycles(catalog.parents)
    findings: list[Finding] = []
    images = [image for image in catalog.every_image() if ids is None or image.id in ids]
    contexts = [ContextFiles(tree, image) for image in images]
    read_ahead(tree, (context for image, context in zip(images, contexts, strict=True) if image.parsed is not None))
    for image, context in zip(images, contexts, strict=True):
        for check in (
            image.problems,
            _check_name(image),
            clashes[image.id],
            _check_files(image, existing, publishes),
            _check_instructions(image, tree, context, features_of),
            _check_installs(image),
            _check_syntax(image, frontends),
            _check_scenarios(image, catalog, tree, existing),
            _check_bases(image, catalog),
            _check_builder(image, features_of),
            _check_platform(image, catalog),
            _check_parents(image, catalog, day),
        ):
            try:
                findings.extend(check)
            except BadInput as fault:  # a file that cannot be read stops nothing but its own image
                findings.append(Finding(image.id, "error", fault.what, fault.where or image.path))
        if image.id in cycles:
            cycle = f"images are built FROM each other: {' → '.join(cycles[image.id])}"
            findings.append(Finding(image.id, "error", cycle, image.dockerfile_path))
    folders = {image.path for image in images}
    of_folders = [image for image in catalog.every_image() if image.path in folders]
    findings += _check_denials(images, tree)
    findings += [each for each in check_notices(of_folders, tree) if ids is None or each.image in ids]
    return sorted(set(findings), key=lambda f: (f.image, f.path, f.line or 0, f.severity, f.message))


def broken_images(catalog: Catalog, tree: Tree, ids: Collection[str] | None = None) -> dict[str, str]:
    """Images that cannot be built as their files are, each with its first error.

    Args:
        catalog: The images.
        tree: The tree that the catalog was loaded from.
        ids: Which images are looked at; None takes all.
    """
    broken: dict[str, str] = {}
    for finding in validate(catalog, tree, ids):
        if finding.severity == "error" and finding.stops_build:
            broken.setdefault(finding.image, str(finding))
    return broken


def _check_name(image: Image) -> Iterator[Finding]:
    fault = name_fault(image.family, image.name)
    if fault:
        yield Finding(image.id, "error", f"{fault}; rename it, or give it another one with image-paths", image.path)


def _check_files(image: Image, existing: Collection[str], publishes: bool) -> Iterator[Finding]:
    missing = [name for name in (LICENSE_FILE, NOTICES_FILE) if image.file(name) not in existing]
    if missing:
        are = f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
        message = f"{are}: the image can be built, but its source can't be published"
        path = image.file(missing[0]) if len(missing) == 1 else image.path
        yield Finding(image.id, "error" if publishes else "warning", message, path, stops_build=False)
    if image.tests_path not in existing:
        message = f"there is no {TESTS_FILE}: the image is released untested"
        yield Finding(image.id, "warning", message, image.tests_path)


def _check_instructions(image: Image, tree: Tree, context: ContextFiles, features_of: FeaturesOf) -> Iterator[Finding]:
    """What the builder refuses, or fails at only when it gets there."""
    if image.parsed is None:
        return
    # A builder is asked only if something depends on its answer.
    features = features_of(image.os) if image.parsed.needs else CLASSIC
    for use in image.parsed.needs:
        if features.refuses(use):
            message = f"{use.written}: {features.builder}, which builds the image, does not know this; remove it"
            yield _at(image, "error", message, use.line)
    every = (instruction_faults(image.parsed, image.settings.build_args, each) for each in image.platforms)
    for refused in sorted(set(chain.from_iterable(every))):
        yield _at(image, "error", refused.message, refused.line)
    for odd in odd_blanks(image.parsed):
        yield _at(image, "warning", odd.message, odd.line)
    for remote in remote_sources(image.parsed, image.settings.build_args, image.platforms):
        if remote.address and not remote.is_fixed:
            message = (
                f"ADD {remote.written}: not reproducible, because what is there may change; "
                "name its --checksum, or the commit of a repository"
            )
            yield _at(image, "warning", message, remote.line)
    for name in image.settings.build_args:
        if name.startswith("BUILDKIT_"):
            message = f"the build argument {name} would steer the builder itself; remove it"
            yield Finding(image.id, "error", message, image.settings_path)
    for fault in context_faults(tree, context):
        path, _, line = fault.where.rpartition(":")
        yield Finding(
            image.id,
            "error",
            f"{fault.what}; {lower_first(fault.hint)}",
            path if line.isdigit() else fault.where,
            int(line) if line.isdigit() else None,
        )
    # For the classic builder a pattern may match nothing if another source of the instruction is there.
    absent = {source for source in context.sources if source.pattern is not None and not context.has(source.pattern)}
    matched = {source.instruction for source in context.sources if source not in absent}
    for source in context.sources:
        if source.pattern is None:
            continue
        if source not in absent:
            if image.os != "windows" and (link := context.dangling(source.pattern)):
                message = f"{source.keyword} {source.written}: nothing is copied where the symbolic link {link} leads"
                yield _at(image, "error", message, source.line)
            continue
        if not is_literal(source.pattern):
            if image.os == "windows" and source.instruction in matched:
                continue
            if image.os != "windows" and context.may_match_nothing(source.pattern):
                continue
        which = "" if image.context == image.path else f", {image.context or 'the repository'}"
        message = f"{source.keyword} {source.written}: there is nothing of this name in the build context{which}"
        if source.pattern in FACTORY_FILES:
            message = (
                f"{source.keyword} {source.written}: only the factory reads this file; it is not in the build context"
            )
        yield _at(image, "error", message, source.line)


def _check_installs(image: Image) -> Iterator[Finding]:
    """What differs with the day of the build."""
    for install in installs(image.parsed) if image.parsed else ():
        for package in install.unpinned:
            message = f"pip install {package}: each build may get another version; pin it with =="
            yield _at(image, "warning", message, install.line)


def _check_denials(images: Collection[Image], tree: Tree) -> Iterator[Finding]:
    """Notices that say that nothing was added, beside a Dockerfile that installs something; all read at once."""
    files = tree.files()
    notices = {image.file(NOTICES_FILE) for image in images} & files.keys()
    try:
        texts = {path: content.decode("utf-8", "replace") for path, content in tree.read_many(notices)}
    except BadInput:  # whoever reads them one by one says which cannot be read
        return
    for image in images:
        path = image.file(NOTICES_FILE)
        if image.parsed and says_nothing_added(head_of(texts.get(path, ""))):
            for install in islice(installs(image.parsed), 1):
                dockerfile, line = image.place(install.line)
                message = f"it says that nothing is added, and {install.manager} installs something"
                yield Finding(image.id, "warning", f"{message} ({dockerfile}:{line})", path)


def _check_syntax(image: Image, frontends: Mapping[str, str]) -> Iterator[Finding]:
    """What becomes of `# syntax=`: a frontend is a program, so only those that a setting names are run."""
    syntax = image.parsed.syntax if image.parsed else ""
    if not syntax or mirrored_frontend(syntax, frontends):
        return
    line = next(number for number, text in enumerate(image.dockerfile.text.split("\n"), 1) if syntax in text)
    if not is_dockerfile_frontend(syntax):
        message = f"# syntax={syntax} is none of the frontends that may read a Dockerfile (setting frontends)"
        yield _at(image, "error", message, line)
    elif asks_for_more(syntax):
        message = f"# syntax={syntax}: the builder's own frontend reads the file, and may be older; see frontends"
        yield _at(image, "warning", message, line)


def _check_scenarios(image: Image, catalog: Catalog, tree: Tree, existing: Collection[str]) -> Iterator[Finding]:
    files = tree.files()
    for index, scenario in enumerate(image.tests.scenarios if image.tests else ()):
        path = scenario_path(scenario, catalog.tests_path)
        key = "script" if scenario.kind == "training" else "path"
        if path not in existing:
            what = "which does not exist"
        elif scenario.kind == "training" and path not in files:
            what = "which is a folder; name the script"
        elif path in files and files[path].mode is FileMode.SYMLINK:
            what = "which is a symbolic link; put the file itself there"
        elif scenario.kind == "training" and not path.endswith(".py"):
            what = "which is no Python file (.py); scripts are run with python"
        else:
            continue
        where = json_lines(tree.read(image.tests_path))
        message = f"scenario {scenario.name!r} runs {path}, {what}"
        yield Finding(image.id, "error", message, image.tests_path, where.line(("scenarios", index, key)))


def _check_bases(image: Image, catalog: Catalog) -> Iterator[Finding]:
    for use in image.parsed.uses if image.parsed else ():
        if use.reference not in image.bases or use.reference in image.releases:
            continue
        doubt = catalog.published.doubt(use.reference)
        if doubt:
            # No error: others may publish there, too.
            yield _at(image, "warning", doubt, use.line)
            continue
        base = Reference.parse(use.reference)
        if base.version == "latest":
            message = f"{use.reference} means another image after each update; name a version"
            yield _at(image, "warning", message, use.line)


def _check_builder(image: Image, features_of: FeaturesOf) -> Iterator[Finding]:
    if image.settings.rewrite_timestamp:
        features = features_of(image.os)
        if REWRITE_TIMESTAMP not in features.supported:
            message = (
                f"rewrite_timestamp: {features.builder} cannot set the times of files; remove it. For Linux images "
                "BuildKit 0.13 can, with buildx 0.22 and containerd's image store"
            )
            yield Finding(image.id, "error", message, image.settings_path)
    if len(image.platforms) > 1:
        features = features_of(image.os)
        if SEVERAL_PLATFORMS not in features.supported:
            because = f": {features.one_platform}" if features.one_platform else ""
            message = f"platforms: {features.builder} makes no image for several platforms{because}; name one"
            yield Finding(image.id, "error", message, image.settings_path)


def _check_platform(image: Image, catalog: Catalog) -> Iterator[Finding]:
    if image.has_windows_base and image.os != "windows":
        message = f"the base is a Windows image, but the platform is {image.platform}"
        yield Finding(
            image.id, "error", message, image.settings_path if image.settings.platform else image.dockerfile_path
        )
    if image.os == "windows" and image.parsed:
        if not image.has_windows_base:
            message = f"the platform is {image.platform}, but no base is known to be a Windows image"
            yield Finding(image.id, "warning", message, image.dockerfile_path)
        elif image.host_build is None:
            known = ", ".join(HOST_BUILDS)
            message = f"the tag of the base names no known Windows version; known are {known}"
            yield Finding(image.id, "error", message, image.dockerfile_path)
    for use in image.parsed.uses if image.parsed else ():
        parent = catalog.images.get(_parent(catalog, image, use.reference) or "")
        if parent and use.kind == "from" and not set(image.platforms) <= set(parent.platforms):
            ours, theirs = (" and ".join(each.platforms) for each in (image, parent))
            message = f"the image is for {ours}, its base {parent.id} for {theirs}"
            yield _at(image, "error", message, use.line)


def _check_parents(image: Image, catalog: Catalog, today: date) -> Iterator[Finding]:
    for use in image.parsed.uses if image.parsed else ():
        parent = catalog.images.get(_parent(catalog, image, use.reference) or "")
        if parent and parent.is_past_end_of_life(today):
            message = f"{parent.id} is past its end of life ({parent.settings.eol}) and not built any more"
            yield _at(image, "warning", message, use.line)


def _parent(catalog: Catalog, image: Image, reference: str) -> str | None:
    """The image of the catalog behind a reference; a doubtful reference is a problem of the image already."""
    if reference in image.bases:
        return None
    try:
        return catalog.published.resolve(reference)
    except BadInput:
        return None


def _clashes(catalog: Catalog) -> dict[str, list[Finding]]:
    """Images that differ, but not in a name that is derived from theirs; by image."""
    found: dict[str, list[Finding]] = defaultdict(list)

    def compare(derive: Callable[[Image], str], message: str, *, within: bool = True) -> None:
        same = defaultdict(list)
        for image in catalog.images.values():
            same[derive(image)].append(image)
        for derived, images in same.items():
            for image in images:
                alike = [other for other in images if other is not image and (within or other.family != image.family)]
                others = ", ".join(other.id for other in alike)
                if others:
                    text = message.format(others=others, derived=derived)
                    found[image.id].append(Finding(image.id, "error", text, image.path))

    compare(
        lambda image: plain_name(image.family, image.name),
        "jobs and assets of {others} would have the same name, {derived}; rename one of the folders",
    )
    compare(
        lambda image: group_name(image.family),
        "the assets of {others} would be in the same group, {derived}; rename one of the families",
        within=False,
    )
    if catalog.published_as:
        compare(
            lambda image: " and ".join(catalog.published.of(image.id)) or image.id,
            "{others} is published under the same name, {derived}, so a FROM could mean either; "
            "put {{family}} into published_as, or rename one of the folders",
        )
    for pattern in catalog.released_as:
        compare(
            lambda image, pattern=pattern: pattern.format(name=image.name, family=image.family),  # type: ignore[misc]
            "{others} would be released under the same name, {derived}; "
            "put {{family}} into production_names (release.public_names), or rename one of the folders",
        )
    return found


def _files_and_folders(tree: Tree) -> set[str]:
    existing = {"."}
    for path in tree.files():
        while path and path not in existing:
            existing.add(path)
            path = posixpath.dirname(path)
    return existing


def _at(image: Image, severity: Severity, message: str, line: int) -> Finding:
    path, line_there = image.place(line)
    return Finding(image.id, severity, message, path, line_there)
