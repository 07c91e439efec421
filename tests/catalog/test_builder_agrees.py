"""Validation and the real builder agree: about Dockerfiles, contexts and variables, written and generated.

Short here; `--hypothesis-profile=long` goes on for long, best with an engine of its own (DOCKER_HOST).
"""

from __future__ import annotations

import re
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aml_images_dagster.catalog.catalog import Catalog
from aml_images_dagster.catalog.content_key import ContentKey
from aml_images_dagster.catalog.context import BuildContext
from aml_images_dagster.catalog.dockerfile import combine, parse_dockerfile, without_directives
from aml_images_dagster.catalog.dockerfile.expansion import ExpansionError
from aml_images_dagster.catalog.dockerfile.instructions import read_instructions
from aml_images_dagster.catalog.dockerfile.scope import Scope, pairs
from aml_images_dagster.catalog.tree import WorkingTree
from aml_images_dagster.catalog.validation import validate
from aml_images_dagster.errors import BadInput
from tests.catalog.written_dockerfiles import ACCEPTED, CONTEXT, KNOWN_DIFFERENCES, LINKS, REFUSED
from tests.real_builder import RealBuilder, is_harmless, write

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aml_images_dagster.catalog.builder_features import BuilderFeatures

pytestmark = pytest.mark.engine

IS_LONG = settings.get_current_profile_name() == "long"
AT_ONCE = 4


def short(examples: int) -> settings:
    """As many examples as fit into some seconds, always the same; or those of the profile."""
    if IS_LONG:
        return settings(deadline=None)
    return settings(max_examples=examples, derandomize=True, deadline=None, phases=[hypothesis.Phase.generate])


@pytest.fixture(scope="module")
def builder() -> RealBuilder:
    return RealBuilder()


@pytest.fixture(scope="module")
def features(builder: RealBuilder) -> BuilderFeatures:
    return builder.features()


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("context")
    write(folder, CONTEXT, LINKS)
    return folder


# (a) Dockerfiles

EXPLAINED = {
    r"--from": (r"failed to calculate checksum of ref|no such file or directory|not found", "what a stage holds"),
    r"": (r"network is unreachable|no such host|dial (tcp|udp)|server misbehaving", "bases are not here"),
    r"COPY|ADD": (r"cannot copy to non-directory", "what is where files are copied to"),
    r"--chown": (
        r"invalid user index|/etc/passwd|/etc/group|unable to find (user|group)|no such file",
        "users of a base",
    ),
}
"""What the builder says of Dockerfiles like these depends on what validation cannot know."""


def errors_of(text: str, features: BuilderFeatures) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "images" / "f" / "x"
        write(image, CONTEXT, LINKS)
        (image / "Dockerfile").write_bytes(text.encode())
        tree = WorkingTree(Path(folder))
        catalog = Catalog.load(tree, "images", ())
        found = validate(catalog, tree, publishes=False, features_of=lambda _: features)
    return [f"{finding.line}: {finding.message}" for finding in found if finding.severity == "error"]


def difference(text: str, builder: RealBuilder, features: BuilderFeatures, context: Path) -> str:
    """How validation and the builder differ about a Dockerfile; empty when they agree, or it is known why."""
    errors = errors_of(text, features)
    if any("no pattern stands behind" in error or "there is no FROM" in error for error in errors):
        return ""
    if not is_harmless(text):
        return ""
    runs = re.search(r"^\s*(ONBUILD\s+)?RUN(?! \[\]$)", text, re.IGNORECASE | re.MULTILINE)
    # As the factory gives it to the builder.
    refusal = builder.refusal(rendered(text), context, builds=not runs)
    if bool(errors) == bool(refusal):
        return ""
    if not refusal and all("ONBUILD cannot be followed by" in error for error in errors):
        return ""  # nobody could be FROM the image
    if refusal:
        for pattern, (reason, _) in EXPLAINED.items():
            if re.search(pattern, text) and re.search(reason, refusal):
                return ""
    return f"{text!r}\n  validation: {errors}\n  builder: {refusal[-400:]!r}"


def rendered(text: str) -> str:
    try:
        return without_directives(text)
    except BadInput:
        return text


def test_written_dockerfiles(builder: RealBuilder, features: BuilderFeatures, context: Path) -> None:
    texts = [*ACCEPTED.values(), *REFUSED.values()][:: 1 if IS_LONG else 6]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda text: difference(text, builder, features, context), texts)
        assert list(filter(None, answers)) == []


def test_known_differences(builder: RealBuilder, features: BuilderFeatures, context: Path) -> None:
    for text in KNOWN_DIFFERENCES.values():
        assert errors_of(text, features) == []
        assert builder.refusal(rendered(text), context)


WORDS = st.sampled_from(
    [
        *(
            "a.txt",
            "b.txt",
            "d",
            "d/c.txt",
            "nothing",
            "nothing*",
            "*.txt",
            "d/*",
            "d/x*",
            "link/c.txt",
            "[ab].txt",
            ".",
        ),
        *("/x", "/x/", "$A", "${A}", "${A:-a.txt}", "${B:+x}", "${B-b.txt}", "${A?}", "${A:?no}", "${A#a}", "${A%%t*}"),
        *(
            "${A/t/x}",
            "${A//t/}",
            "'a.txt'",
            '"a b.txt"',
            "a\\ b.txt",
            "\\$A",
            "'$A'",
            '"$A"',
            "k=v",
            "k='v w'",
            'k="v',
        ),
        *(
            "=v",
            "k=",
            "A=1",
            "A=$A",
            "B=${A}",
            "'",
            '"',
            "\\",
            "${",
            "}",
            "[",
            "]",
            '["a.txt", "/x/"]',
            '["a"',
            "[1]",
            "[]",
        ),
        *(
            "<<E",
            "80",
            "80/tcp",
            "1-3",
            "90-80",
            "abc",
            "SIGTERM",
            "9",
            "NONE",
            "CMD",
            "true",
            "--",
            "#",
            "\u00a0",
            "AS",
            "s",
        ),
        *(
            "scratch",
            "0",
            "1",
            "https://a.example/x",
            "git@a.example:b/c.git",
            "${A#*.}",
            "$(x)",
            "|",
            "a,b",
            "-x",
            "..",
        ),
    ]
)
FLAGS = st.sampled_from(
    [
        *(
            "--from=s",
            "--from=0",
            "--from=1",
            "--from=S",
            "--from=",
            "--from",
            "--from=$A",
            "--chown=1:1",
            "--chown=$A",
        ),
        *(
            "--chmod=755",
            "--chmod=x",
            "--link",
            "--link=true",
            "--link=no",
            "--checksum=sha256:x",
            "--keep-git-dir=true",
        ),
        *(
            "--interval=1s",
            "--interval=1",
            "--timeout=1ms",
            "--retries=3",
            "--retries=x",
            "--start-period=0s",
            "--x",
            "--x=y",
        ),
        *("--platform=linux/amd64", "--platform=$BUILDPLATFORM", "--platform=x", "--mount=type=cache,target=/c"),
        *(
            "--mount=type=bind,target=/c",
            "--mount=target=/c,rw=x",
            "--mount=type=x",
            "--mount=type=tmpfs,target=/c,size=1m",
        ),
        *("--mount=type=secret,id=a", "--mount=type=cache,target=/c,mode=0755,uid=1", "--network=none", "--network=x"),
        *("--exclude=x", "--parents", "--security=insecure", '--mount="type=cache,target=/c"', "--start-interval=1s"),
    ]
)
KEYWORDS = st.sampled_from(
    [
        *(
            "ADD",
            "ARG",
            "CMD",
            "COPY",
            "COPY",
            "COPY",
            "ENTRYPOINT",
            "ENV",
            "ENV",
            "EXPOSE",
            "FROM",
            "HEALTHCHECK",
            "LABEL",
        ),
        *(
            "MAINTAINER",
            "ONBUILD",
            "ONBUILD COPY",
            "ONBUILD ENV",
            "RUN",
            "SHELL",
            "STOPSIGNAL",
            "USER",
            "VOLUME",
            "WORKDIR",
        ),
        *("healthcheck", "copy", "NOPE"),
    ]
)
LINES = st.builds(
    lambda keyword, flags, words, end: " ".join([keyword, *flags, *words]) + end,
    KEYWORDS,
    st.lists(FLAGS, max_size=2),
    st.lists(WORDS, max_size=3),
    st.sampled_from(["", "", "", "", " \\", " ", "\t", "\\"]),
)
HEREDOCS = st.builds(
    lambda start, words, end: [f"{start} /h", " ".join(words), end],
    st.sampled_from(["COPY <<E", "COPY <<'E'", "ADD <<-E a.txt", 'COPY <<"E"', "COPY <<E <<F", "ONBUILD COPY <<E"]),
    st.lists(WORDS, max_size=4),
    st.sampled_from(["E", "E", "E", "\tE", " E", "E\nF"]),
)
STARTS = st.sampled_from(["", "", "ARG A=a.txt\n", "# escape=`\n", "# check=skip=all\n# escape=`\n", "\ufeff", "# x\n"])
GENERATED = st.builds(
    lambda start, name, lines, heredoc, last, end: (
        end.join([f"{start}FROM scratch{name}", "COPY a.txt /", *lines, *heredoc, *last]) + end
    ),
    STARTS,
    st.sampled_from(["", " AS s", " as S"]),
    st.lists(LINES, max_size=3),
    st.one_of(st.just([]), st.just([]), st.just([]), HEREDOCS),
    st.sampled_from(
        [[], [], ["FROM scratch", "COPY a.txt /"], ["FROM s AS t", "COPY b.txt /"], ["E"], ["", "# x", ""]]
    ),
    st.sampled_from(["\n", "\n", "\n", "\r\n"]),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """One of the written Dockerfiles with a character more, less or changed."""
    text = draw(st.sampled_from([text for text in (*ACCEPTED.values(), *REFUSED.values()) if 0 < len(text) < 1000]))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(text)))
        added = draw(st.sampled_from([*" \t\n\\'\"${}[]=,:#%?*/-<>|~.`\u00a0\u200b\r0a", "", "--", "<<E", "\n\n"]))
        text = text[:at] + added + text[at + draw(st.integers(0, 1)) :]
    return text


@short(7)
@given(texts=st.lists(st.one_of(GENERATED, GENERATED, mutated()), min_size=8, max_size=8))
def test_generated_dockerfiles(
    builder: RealBuilder, features: BuilderFeatures, context: Path, texts: list[str]
) -> None:
    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = pool.map(lambda text: difference(text, builder, features, context), texts)
        assert list(filter(None, answers)) == []


STAGES = """FROM scratch AS one
COPY a.txt /one
FROM scratch AS Two
COPY --from=one / /
COPY b.txt /two
FROM two AS three
COPY a.txt /three
FROM scratch AS three
COPY --from=1 / /last
FROM scratch
COPY b.txt /
"""


@pytest.mark.parametrize("target", ["one", "Two", "two", "ONE", "three", "four"])
def test_targets(builder: RealBuilder, context: Path, target: str) -> None:
    theirs = builder.files(STAGES, context, target)
    try:
        ours = combine(STAGES.encode(), None, target=target)
    except BadInput:
        assert isinstance(theirs, str)
        assert "could not be found" in theirs
    else:
        assert builder.files(ours, context) == theirs
        assert isinstance(theirs, dict)


# (b) Contexts

NAMES = [
    "a",
    "A",
    "b.txt",
    "a.md",
    "d/a",
    "d/b.txt",
    "d/e/a",
    "d/e/f/b.md",
    "x/d/a",
    ".h",
    "#c",
    "d.d/a",
    "B/a",
    "é",
    "s p",
]
PIECES = st.sampled_from(
    [
        *(
            "a",
            "A",
            "d",
            "e",
            "*",
            "**",
            "?",
            "*.txt",
            "*.md",
            "b.*",
            "[ab]",
            "[^a]",
            ".*",
            "é",
            "d.d",
            "..",
            ".",
            "s p",
            "B",
        ),
        *(
            "**a",
            "a**",
            "d*",
            "*d",
            "[",
            "\\a",
            "a|b*",
            "{a,b}*",
            "[a-",
            "*.{md,txt}",
            "***",
            "[!a]",
            "f",
            "x",
            "b.txt",
        ),
    ]
)
PATTERNS = st.builds(
    lambda sign, start, pieces, end: f"{sign}{start}{'/'.join(pieces)}{end}",
    st.sampled_from(["", "", "", "!", "! ", "#", " "]),
    st.sampled_from(["", "", "", "/", "./"]),
    st.lists(PIECES, min_size=1, max_size=3),
    st.sampled_from(["", "", "", "/", " ", "\r"]),
)
IGNORES = st.lists(PATTERNS, max_size=4).map("\n".join)
SOURCES = st.lists(PIECES, min_size=1, max_size=3).map("/".join)
FILES = st.sets(st.sampled_from(NAMES), min_size=1).map(lambda names: {name: f"{name}\n" for name in sorted(names)})
LINKED = st.dictionaries(
    st.sampled_from(["l", "d/l", "x/l"]),
    st.sampled_from(["a", "d", "../d", "/d/e", "nowhere", "l", "..", ".", "../../x", "e", "/"]),
    max_size=2,
)


def compared(files: Mapping[str, str] | str, real: Mapping[str, str]) -> dict[str, str]:
    """What has to be the same in two images: all but .dockerignore, which the factory does not send, and folders in
    which there is nothing else, because a COPY that matches nothing makes none."""
    assert not isinstance(files, str), files
    hidden = [path for path in real if path.endswith("/.dockerignore")]
    folders = [path.rpartition("/")[0] for path in hidden]
    alone = [folder for folder in folders if sum(path.startswith(f"{folder}/") for path in real) == 1]
    return {path: what for path, what in files.items() if path not in (*hidden, *alone)}


def copied(text: str, files: Mapping[str, str], links: Mapping[str, str], ignore: str, builder: RealBuilder) -> None:
    """The image from what the factory sends is that from what the real client sends."""
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "images" / "f" / "x"
        write(image, {**files, **({".dockerignore": ignore} if ignore else {})}, links)
        real = shutil.copytree(image, Path(folder) / "real", symlinks=True)
        (image / "Dockerfile").write_text(text)
        (real / "Dockerfile").write_text(text)
        tree = WorkingTree(Path(folder))
        catalog = Catalog.load(tree, "images", ())
        (found,) = catalog.images.values()
        errors = [each.message for each in validate(catalog, tree, publishes=False) if each.severity == "error"]
        theirs = builder.files(text, real)
        shown = f"{text!r} {sorted(files)} {links} {ignore!r}: {errors} {theirs}"
        assert bool(errors) == isinstance(theirs, str), shown
        if isinstance(theirs, str):
            return
        sent = BuildContext.of(tree, found)
        sent.write_tar(Path(folder) / "sent.tar", text, 0)
        shutil.unpack_archive(Path(folder) / "sent.tar", Path(folder) / "sent")
        ours = builder.files(text, Path(folder) / "sent")
        assert compared(ours, theirs) == compared(theirs, theirs), shown
        key = ContentKey.of(dockerfile=text, context=sent, build_args={}, platform="", bases={})
        assert set(key.files) == {each.path for each in sent.files} | {f"{each}/" for each in sent.folders}


@short(14)
@given(FILES, LINKED, IGNORES, st.lists(SOURCES, max_size=2))
def test_contexts(
    builder: RealBuilder, files: dict[str, str], links: dict[str, str], ignore: str, sources: list[str]
) -> None:
    links = {
        name: target for name, target in links.items() if not any(f"{file}/".startswith(f"{name}/") for file in files)
    }
    text = "".join(["FROM scratch\nCOPY . /x/\n", *(f"COPY {source} /y/\n" for source in sources)])
    copied(text, files, links, ignore, builder)


@short(14)
@given(FILES, LINKED, IGNORES, st.lists(SOURCES, min_size=1, max_size=2))
def test_sources(
    builder: RealBuilder, files: dict[str, str], links: dict[str, str], ignore: str, sources: list[str]
) -> None:
    links = {
        name: target for name, target in links.items() if not any(f"{file}/".startswith(f"{name}/") for file in files)
    }
    text = "FROM scratch\n" + "".join(f"COPY {source} /y{number}/\n" for number, source in enumerate(sources))
    copied(text, files, links, ignore, builder)


# (c) Variables

VARIABLES = ["A", "B", "C", "TARGETARCH", "TARGETPLATFORM", "TARGETVARIANT", "BUILDOS", "PATH", "HTTP_PROXY"]
VALUES = st.one_of(
    st.sampled_from(
        ["", "x", "abcabc", "a.b.c", "'q w'", '"d q"', "\\$A", "a\\ b", "'$A'", '"$A"', "a/b/c", "\\\\", "é"]
    ),
    st.builds(lambda name: f"${name}", st.sampled_from(VARIABLES)),
    st.builds(
        lambda name, operator, word: f"${{{name}{operator}{word}}}",
        st.sampled_from(VARIABLES),
        st.sampled_from(["", ":-", "-", ":+", "+", ":?", "?", "#", "##", "%", "%%", "/", "//"]),
        st.sampled_from(
            ["", "x", "$A", "${B:-y}", "a*", "*b", "?", "a/z", "b*/$C", "*c/", "b/", "\\*", "'q'", "a\\}b", ".*"]
        ),
    ),
)
SETTINGS = st.builds(
    lambda keyword, name, value: f"{keyword} {name}{value}",
    st.sampled_from(["ARG", "ENV"]),
    st.sampled_from(VARIABLES),
    st.one_of(VALUES.map(lambda value: f"={value}"), st.just("")),
).filter(lambda line: "=" in line or line.startswith("ARG"))
STAGE_LINES = st.lists(st.one_of(SETTINGS, VALUES.map(lambda value: f"LABEL l=l{value}")), max_size=5)


@short(30)
@given(
    before=st.lists(SETTINGS.filter(lambda line: line.startswith("ARG")), max_size=2),
    stages=st.lists(STAGE_LINES, min_size=1, max_size=2),
    base=st.sampled_from(["scratch", "s0"]),
    build_args=st.dictionaries(st.sampled_from(VARIABLES[:3]), st.sampled_from(["", "built", "a b"]), max_size=2),
    shown=st.lists(VALUES, min_size=1, max_size=4),
)
def test_variables(
    builder: RealBuilder,
    before: list[str],
    stages: list[list[str]],
    base: str,
    build_args: dict[str, str],
    shown: list[str],
) -> None:
    lines = [*before]
    for number, stage in enumerate(stages):
        lines += [f"FROM {base if number else 'scratch'} AS s{number}", *stage]
    lines += [f"LABEL l{number}={value}" for number, value in enumerate(shown)]
    text = "\n".join(lines) + "\n"
    hypothesis.assume(is_harmless(text))
    ours = labels_of(text, build_args)
    theirs = builder.labels(text, build_args)
    if isinstance(ours, str) or isinstance(theirs, str):
        assert isinstance(ours, str) and isinstance(theirs, str), f"{text!r} {build_args}: {ours!r} {theirs!r}"
    else:
        assert ours == theirs, f"{text!r} {build_args}"


def labels_of(text: str, build_args: Mapping[str, str]) -> dict[str, str | None] | str:
    """The labels of the last stage; a text says why there are none."""
    try:
        dockerfile = parse_dockerfile(text, build_args)
        scope = Scope(dockerfile, build_args, "linux/amd64")
        stages: list[dict[str, str | None]] = []
        for instruction in read_instructions(text, str, dockerfile.escape):
            if instruction.keyword == "FROM":
                parent = dockerfile.stages[len(stages)].parent
                stages.append({} if parent is None else dict(stages[parent]))
            elif stages and len(stages) - 1 in dockerfile.needed_stages:
                if instruction.keyword == "LABEL":
                    for name, value in pairs(instruction, dockerfile.escape):
                        stages[-1][name] = scope.known(value)
                else:
                    for _, value in pairs(instruction, dockerfile.escape):
                        scope.known(value)
            scope.take(instruction)
    except (BadInput, ExpansionError) as error:
        return str(error)
    return stages[-1]
