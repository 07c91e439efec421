"""What a Dockerfile says about images: its stages, and the images from outside that it uses.

Rules for names and variables: https://docs.docker.com/reference/dockerfile/#from,
https://docs.docker.com/reference/dockerfile/#copy---from and BuildKit's dockerfile2llb.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from aml_images_dagster.catalog.builder_features import (
    EVERYWHERE,
    HEREDOCS,
    PLATFORM_ARGS,
    SECRET_VARIABLES,
    FeatureUse,
)
from aml_images_dagster.catalog.dockerfile.expansion import Expansion, ExpansionError, expand, platform_variables
from aml_images_dagster.catalog.dockerfile.flags import MountError, mount_fields
from aml_images_dagster.catalog.dockerfile.instructions import (
    Instruction,
    Place,
    read_directives,
    read_instructions,
    words,
)
from aml_images_dagster.catalog.graph import find_cycle
from aml_images_dagster.catalog.layout import TEMPLATE_TAGS
from aml_images_dagster.catalog.reference import Reference
from aml_images_dagster.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aml_images_dagster.catalog.dockerfile.flags import Character

SCRATCH = "scratch"

_STAGE_NAME = re.compile(r"[a-z][a-z0-9._-]*")
_WORD = re.compile(r"[^\t\v\f\r ]+")
_SYSTEM = re.compile(
    "aix|android|darwin|dragonfly|freebsd|hurd|illumos|ios|js|linux|macos|nacl|netbsd|openbsd|plan9|solaris|windows|zos"
)
_ARCHITECTURE = re.compile(
    "i?386|amd64(p32)?|x86[_-]64|arm(hf|el|be)?|arm64(be)?|aarch64|ppc(64(le)?)?|loong64|mips(64)?(le)?|mips64p32(le)?|"
    "riscv(64)?|s390x?|sparc(64)?|wasm"
)
_ALIASES = {
    "aarch64": ("arm64", ""),
    "armel": ("arm", "v6"),
    "armhf": ("arm", "v7"),
    "i386": ("386", ""),
    "x86-64": ("amd64", ""),
    "x86_64": ("amd64", ""),
}
"""Other names of architectures: architecture, and variant where none is named."""
_WITH_FLAGS = frozenset({"FROM", "COPY", "ADD", "RUN"})


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image from outside the Dockerfile that it uses.

    Attributes:
        kind: `FROM`, `COPY --from` or `RUN --mount=from=`.
        reference: The image reference after expansion, as the builder would ask for it.
        line: Line of the reference, counted from 1.
        start: Offset of the reference in the text.
        end: Offset behind the reference in the text.
    """

    kind: Literal["from", "copy", "mount"]
    reference: str
    line: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Stage:
    """One build stage.

    Attributes:
        index: Counted from 0.
        name: From `AS name`, in lower case; empty without.
        base: What it is FROM, after expansion: an image reference, a stage's name or `scratch`.
        parent: Index of the stage that it is FROM; None when it is FROM an image or scratch.
        platform: From `FROM --platform`, after expansion; a stage FROM a stage has its parent's. Empty without.
        line: Line of its FROM.
    """

    index: int
    name: str
    base: str
    parent: int | None
    platform: str
    line: int


@dataclass(frozen=True, slots=True)
class Dockerfile:
    """A Dockerfile that was read.

    Attributes:
        text: The whole text.
        escape: The escape character in force.
        stages: In order; never empty.
        uses: Images from outside, in order of the text; neither stages nor scratch.
        needs: Everything that not every builder builds, in order of the text.
        needed_stages: Indexes of the stages that the last one is made from; BuildKit builds no others.
        syntax: The frontend that `# syntax=` asks for; empty without.
    """

    text: str
    escape: str
    stages: tuple[Stage, ...]
    uses: tuple[ImageUse, ...]
    needs: tuple[FeatureUse, ...]
    needed_stages: frozenset[int]
    syntax: str = ""

    @property
    def final_chain(self) -> tuple[Stage, ...]:
        """The last stage, the stage that it is FROM, and so on; the last of them is FROM an image or scratch."""
        chain = [self.stages[-1]]
        while chain[-1].parent is not None:
            chain.append(self.stages[chain[-1].parent])
        return tuple(chain)

    @property
    def base(self) -> str:
        """The image that the resulting image is made from; `scratch` for none."""
        return self.final_chain[-1].base

    @property
    def platform(self) -> str:
        """The platform that `FROM --platform` gives the resulting image; empty when nothing is said."""
        return self.stages[-1].platform


def parse_dockerfile(
    text: str | bytes,
    build_args: Mapping[str, str] | None = None,
    path: str = "Dockerfile",
    *,
    platform: str = "linux/amd64",
) -> Dockerfile:
    """Read a Dockerfile.

    Args:
        text: The file.
        build_args: Values for ARG; those that the file does not declare have no effect.
        path: The file's name in messages.
        platform: What TARGETPLATFORM, BUILDPLATFORM and their companions are made from.

    Raises:
        BadInput: The builder would refuse it, with `where` as `path:line`.
    """
    decoded = decode(text, path) if isinstance(text, bytes) else text
    return read_dockerfile(decoded, build_args or {}, lambda line: f"{path}:{line}", platform)


def decode(content: bytes, path: str) -> str:
    """The text of a file; a byte order mark and line ends stay.

    Raises:
        BadInput: It is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise BadInput("the file is not UTF-8", where=f"{path}:{line}", hint="Save it as UTF-8.") from None


def no_from(place: Place) -> BadInput:
    """The error of a Dockerfile that has nothing, or nothing but ARG."""
    return BadInput("there is no FROM", where=place(1), hint="An image begins with FROM <image>.")


def read_dockerfile(
    text: str,
    build_args: Mapping[str, str],
    place: Place,
    platform: str,
    template_tags: Sequence[str] = TEMPLATE_TAGS,
    below: Sequence[str] = (),
) -> Dockerfile:
    """`parse_dockerfile` for a text whose lines `place` names, and below which there were stages of these names."""
    directives = read_directives(text, place)
    read = _Reader(text, directives.get("escape", "\\"), build_args, place, platform, template_tags, below).read()
    return replace(read, syntax=directives.get("syntax", ""))


class _Reader:
    def __init__(
        self,
        text: str,
        escape: str,
        build_args: Mapping[str, str],
        place: Place,
        platform: str,
        template_tags: Sequence[str],
        below: Sequence[str],
    ) -> None:
        self._text = text
        self._escape = escape
        self._build_args = build_args
        self._place = place
        self._templates = _templates(tuple(template_tags))
        self._variables = platform_variables(platform, build_args)
        self._predefined = set(self._variables)
        self._stages: list[Stage] = []
        self._uses: list[ImageUse] = []
        self._needs: list[FeatureUse] = []
        self._platform = platform
        self._is_windows = platform.startswith("windows/")
        self._made_from: list[set[int]] = []
        """Of every stage, the stages that it is FROM or takes files from."""
        self._taken: list[_Taken] = []
        self._named: dict[str, int] = {}
        """The last stage of every name: what COPY --from means, before it or behind it."""
        self._number_of_stages = 0
        self._below = below

    def read(self) -> Dockerfile:
        instructions = read_instructions(self._text, self._place, self._escape)
        self._named, self._number_of_stages = stage_names(instructions)
        self._named |= dict.fromkeys(self._below, self._number_of_stages)
        for instruction in instructions:
            self._note_needs(instruction)
            if instruction.keyword == "FROM":
                self._read_from(instruction)
            elif not self._stages:
                self._read_global_arg(instruction)
            elif instruction.keyword == "COPY":
                self._read_copy(instruction)
            elif instruction.keyword == "RUN":
                self._read_mounts(instruction)
        if not self._stages:
            raise no_from(self._place)
        self._check_order()
        return Dockerfile(
            self._text,
            self._escape,
            tuple(self._stages),
            tuple(self._uses),
            tuple(self._needs),
            self._needed_stages(),
        )

    def _needed_stages(self) -> frozenset[int]:
        needed: set[int] = set()
        waiting = {len(self._stages) - 1}
        while waiting:
            stage = waiting.pop()
            needed.add(stage)
            waiting |= {source for source in self._made_from[stage] - needed if source < len(self._stages)}
        return frozenset(needed)

    def _check_order(self) -> None:
        """Make sure that files are taken from stages that are complete: in BuildKit only where that is needed."""
        needed = self._needed_stages()
        between: dict[str, tuple[str, ...]] = {}
        for taken in self._taken:
            if taken.source < taken.stage:
                continue
            if taken.stage in needed:
                below = taken.source >= len(self._stages)
                which = "below the target" if below else f"line {self._stages[taken.source].line}"
                raise BadInput(
                    f"{taken.written} names a stage that is not complete here ({which})",
                    where=self._place(taken.line),
                    hint="Move that stage above this one.",
                )
        for taken in self._taken:
            between[str(taken.stage)] = (*between.get(str(taken.stage), ()), str(taken.source))
        if cycle := find_cycle(between):
            first = next(taken for taken in self._taken if str(taken.stage) == cycle[0])
            raise BadInput(
                "stages take files from each other",
                where=self._place(first.line),
                hint="Let each of them take files from stages above it only.",
            )

    def _note_needs(self, instruction: Instruction) -> None:
        keyword = instruction.keyword
        for flag in instruction.flags if keyword in _WITH_FLAGS and not instruction.on_build else ():
            shown = f"{keyword} --{flag.name}"
            if shown not in EVERYWHERE:
                self._need(instruction, shown, shown)
        if instruction.heredocs:
            self._need(instruction, HEREDOCS, f"{keyword} <<{instruction.heredocs[0].name}")

    def _need(self, instruction: Instruction, feature: str, written: str) -> None:
        self._needs.append(FeatureUse(instruction.line, feature, written))

    def _read_global_arg(self, instruction: Instruction) -> None:
        if instruction.keyword != "ARG":
            raise BadInput(
                f"{instruction.keyword} is before the first FROM",
                where=self._place(instruction.line),
                hint="Only ARG is allowed before FROM.",
            )
        where = self._place(instruction.line)
        given = words(instruction.text, self._escape)
        if not given or given[0].startswith("="):
            raise BadInput("ARG takes <name> or <name>=<default>", where=where)
        for word in given:
            name, has_default, default = word.partition("=")
            if name in self._build_args:
                self._variables[name] = self._build_args[name]
            else:
                self._variables[name] = self._expand(default, instruction).value if has_default else ""
            self._predefined.discard(name)

    def _read_from(self, instruction: Instruction) -> None:
        where = self._place(instruction.line)
        given = list(_WORD.finditer(instruction.body.rstrip(), instruction.arguments))
        named = len(given) == 3 and given[1].group().upper() == "AS"
        if len(given) != 1 and not named:
            raise BadInput("FROM takes <image> or <image> AS <name>", where=where)
        name = given[2].group().lower() if named else ""
        if name and not _STAGE_NAME.fullmatch(name):
            raise BadInput(
                f"{name!r} is no name for a stage",
                where=where,
                hint="It begins with a letter; letters, digits, . _ - follow.",
            )
        # Before it is expanded: the expression in a template has backslashes.
        template = self._templates.search(given[0].group())
        expansion = self._expand(given[0].group()[: template.start() if template else None], instruction)
        if template:
            expressions = filter(None, template.groups())
            tag = "".join(f":{expression}" for expression in expressions)
            expansion = replace(expansion, value=f"{expansion.value}:{{{{latest-image-tag{tag}}}}}")
        base, without_value = expansion.value, expansion.without_value
        platform = next((flag.value for flag in instruction.flags if flag.name == "platform"), "")
        if platform:
            target = self._expand(platform, instruction)
            platform = target.value
            if not platform:
                raise BadInput(f"FROM --platform is empty: {_no_value(target.without_value)}", where=where)
            if not _is_platform(platform):
                raise BadInput(f"FROM --platform={platform} is no platform, such as linux/amd64", where=where)
            platform = _normalized(platform, self._platform)
        if not base:
            raise BadInput(
                f"FROM {given[0].group()} names no image: {_no_value(without_value)}",
                where=where,
                hint="Give the ARG a default before the first FROM, or a value as a build argument.",
            )
        parent = stage_named(self._stages, base, is_windows=self._is_windows)
        if parent is not None:
            platform = parent.platform
        elif base != SCRATCH:
            self._check_reference(base, instruction, without_value)
            self._add_use("from", base, instruction, given[0].start(), given[0].end())
        index = len(self._stages)
        self._stages.append(Stage(index, name, base, parent.index if parent else None, platform, instruction.line))
        self._made_from.append({parent.index} if parent else set())

    def _read_copy(self, instruction: Instruction) -> None:
        for flag in instruction.flags:
            if flag.name != "from" or not flag.value:
                continue
            source = flag.value
            if not re.fullmatch(r"[+-]?[0-9]{1,9}", source):
                self._read_source("copy", source, flag.characters, instruction)
            elif not instruction.on_build:
                if not 0 <= int(source) < self._number_of_stages:
                    raise BadInput(
                        f"COPY --from={source} names no stage",
                        where=self._place(instruction.line),
                        hint="Stages are counted from 0, in the order of FROM.",
                    )
                self._take_from(int(source), f"COPY --from={source}", instruction)

    def _read_mounts(self, instruction: Instruction) -> None:
        for flag in instruction.flags:
            if flag.name != "mount":
                continue
            try:
                fields = {field.key: field for field in mount_fields(flag)}
            except MountError as error:
                raise BadInput(str(error), where=self._place(instruction.line)) from None
            if "env" in fields:
                self._need(instruction, SECRET_VARIABLES, f"RUN --mount=…,env={fields['env'].value}")
            source = fields.get("from")
            if source is None or not source.value:
                continue
            if "type" in fields and fields["type"].value == "tmpfs":
                raise BadInput(
                    f"RUN --mount=type=tmpfs takes no from={source.value}",
                    where=self._place(instruction.line),
                    hint="Remove from=; BuildKit in Docker 20.10 crashes on it, and takes the engine with it.",
                )
            self._read_source("mount", source.value, source.characters, instruction)

    def _read_source(
        self,
        kind: Literal["copy", "mount"],
        source: str,
        characters: Sequence[Character],
        instruction: Instruction,
    ) -> None:
        """The value of `COPY --from=` or of `from=` in `RUN --mount`: a stage or an image."""
        where = self._place(instruction.line)
        shown = f"COPY --from={source}" if kind == "copy" else f"RUN --mount=from={source}"
        if "$" in source:
            raise BadInput(
                f"{shown}: variables are not expanded here",
                where=where,
                hint="Define a stage, FROM ${…} AS <name>, and name that stage.",
            )
        if instruction.on_build:
            if _STAGE_NAME.fullmatch(source.lower()):
                return  # A stage of the Dockerfile that will be FROM this image.
        elif source.lower() in self._named:
            self._take_from(self._named[source.lower()], shown, instruction)
            return
        if source == SCRATCH:
            return
        if characters[0].quote != characters[-1].quote:
            raise BadInput(f"{shown}: quote the whole of it or nothing", where=where)
        self._check_reference(source, instruction, ())
        self._add_use(kind, source, instruction, characters[0].index, characters[-1].index + 1)

    def _take_from(self, source: int, written: str, instruction: Instruction) -> None:
        self._made_from[-1].add(source)
        self._taken.append(_Taken(len(self._stages) - 1, source, written, instruction.line))

    def _expand(self, word: str, instruction: Instruction) -> Expansion:
        """Expand a word; a platform ARG in it, which is empty for the classic builder, is a need.

        Raises:
            BadInput: The word cannot be expanded.
        """
        try:
            expansion = expand(word, self._variables, self._escape)
        except ExpansionError as error:
            where = self._place(instruction.line)
            raise BadInput(f"{instruction.keyword} {word}: {error}", where=where) from None
        for name in expansion.variables:
            if name in self._predefined:
                self._need(instruction, PLATFORM_ARGS, f"predefined ARG {name}")
        return expansion

    def _check_reference(self, reference: str, instruction: Instruction, without_value: Sequence[str]) -> None:
        try:
            Reference.parse(reference)
        except BadInput as error:
            reason = f": {_no_value(without_value)}" if without_value else ""
            raise BadInput(f"{error.what}{reason}", where=self._place(instruction.line), hint=error.hint) from None

    def _add_use(
        self, kind: Literal["from", "copy", "mount"], reference: str, instruction: Instruction, start: int, end: int
    ) -> None:
        begin, _ = instruction.span(0, 1)
        first, last = instruction.span(start, end)
        line = instruction.line + self._text.count("\n", begin, first)
        self._uses.append(ImageUse(kind, reference, line, first, last))


@dataclass(frozen=True, slots=True)
class _Taken:
    """A place where a stage takes files from another."""

    stage: int
    source: int
    written: str
    line: int


def stage_names(instructions: Sequence[Instruction]) -> tuple[dict[str, int], int]:
    """Indexes of the named stages, the last of each name, and how many stages there are."""
    found: dict[str, int] = {}
    stages = [each for each in instructions if each.keyword == "FROM" and not each.on_build]
    for index, instruction in enumerate(stages):
        given = _WORD.findall(instruction.body, instruction.arguments)
        if len(given) == 3:
            found[given[2].lower()] = index
    return found, len(stages)


def stage_named(stages: Sequence[Stage], name: str, *, is_windows: bool) -> Stage | None:
    """The nearest of these stages that FROM means; BuildKit keeps names in lower case, and looks for it as it is."""
    meant = name.lower() if is_windows else name
    return next((stage for stage in reversed(stages) if meant and stage.name == meant), None)


def _is_platform(text: str) -> bool:
    """Whether it is a platform. Source: https://github.com/containerd/platforms, Parse."""
    parts = text.lower().split("/")
    if not all(re.fullmatch(r"[a-z0-9_-]+", part) for part in parts):
        return False
    return len(parts) in (2, 3) or bool(_SYSTEM.fullmatch(parts[0]) or _ARCHITECTURE.fullmatch(parts[0]))


def _normalized(text: str, default: str) -> str:
    """A platform in the words of image configurations.

    Source: https://github.com/containerd/platforms, Parse and Normalize.

    Args:
        text: A platform, or the name of a system or of an architecture alone.
        default: The platform that has what is not said.
    """
    system, _, rest = text.lower().partition("/")
    architecture, _, variant = rest.partition("/")
    if not rest and not _SYSTEM.fullmatch(system):
        system, architecture = default.partition("/")[0], system
    elif not rest:
        architecture, _, variant = default.partition("/")[2].partition("/")
    architecture, named = _ALIASES.get(architecture, (architecture, ""))
    variant = variant or named
    if architecture == "arm":
        variant = f"v{variant.removeprefix('v') or '7'}"
    elif (architecture, variant) in (("arm64", "8"), ("arm64", "v8"), ("amd64", "v1")) or architecture == "386":
        variant = ""
    return "/".join(filter(None, (system, architecture, variant)))


@lru_cache
def _templates(tags: tuple[str, ...]) -> re.Pattern[str]:
    """Templates of tags as one regular expression for the end of a reference."""
    return re.compile("|".join(f":{re.escape(tag).replace(chr(92) + '*', '(.+)')}$" for tag in tags) or "(?!)")


def _no_value(names: Sequence[str]) -> str:
    if not names:
        return "it is empty"
    return ", ".join(f"ARG {name}" for name in names) + (" has no value" if len(names) == 1 else " have no value")
