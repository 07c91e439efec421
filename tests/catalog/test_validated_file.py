"""What is wrong with a tests.json or image.json is reported at once, with line and hint. YAML: tests/schedules."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.catalog.tests_file import TestPlan
from aml_images_dagster.catalog.validated_file import json_lines, read_model_file

PLAN = """{
  "scenarios": [
    {"name": "one", "kind": "training", "script": "train.py"},
    {
      "name": "two",
      "kind": "training",
      "script": "mpi.py",
      "nodes": 2,
      "distribution": "mpi"
    }
  ],
  "timeout_minutes": 5
}
"""

NAME_FORM = "lower-case letters, digits and inner hyphens, at most 40 characters"


def faults(text, model=TestPlan):
    content = text if isinstance(text, bytes) else text.encode()
    read, findings = read_model_file(model, content, "tests.json", image="base/x")
    assert (read is None) == bool(findings)
    return [(finding.line, finding.message) for finding in findings]


def test_a_good_file():
    plan, findings = read_model_file(TestPlan, PLAN.encode(), "tests.json", image="base/x")
    assert not findings
    assert [scenario.name for scenario in plan.scenarios] == ["one", "two"]


def test_byte_order_mark_tabs_and_windows_line_ends():
    assert faults(b"\xef\xbb\xbf" + PLAN.replace("  ", "\t").replace("\n", "\r\n").encode()) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('"scenarios"', '"scenario"', [(2, 'unknown key "scenario"; did you mean "scenarios"?')]),
        ('"nodes": 2', '"node": 2', [(8, 'unknown key "scenarios[1].node"; did you mean "nodes"?')]),
        ('"nodes": 2', '"nodes": "2"', [(8, 'scenarios[1].nodes: must be a whole number, not "2"')]),
        ('"nodes": 2', '"nodes": 0', [(8, "scenarios[1].nodes: must be at least 1, not 0")]),
        ('      "script": "mpi.py",\n', "", [(4, '"scenarios[1].script" is missing')]),
        ('"mpi.py"', '"../mpi.py"', [(7, "scenarios[1].script: write a path without a leading /")]),
        ('"mpi.py"', '"/mpi.py"', [(7, "scenarios[1].script: write a path without a leading /")]),
        ('"two"', '"one"', [(5, 'scenarios[1].name: must be unique; scenarios[0] is named "one", too')]),
        (
            '"two"',
            '"Two"',
            [
                (
                    5,
                    f'scenarios[1].name: must be {NAME_FORM}, not "Two"',
                )
            ],
        ),
        ('"distribution": "mpi"', '"processes_per_node": 2', [(4, "scenarios[1]: more than one process needs")]),
        (
            '"kind": "training"',
            '"kind": "trianing"',
            [(4, 'scenarios[1]: unknown kind "trianing"; did you mean "training"?')],
        ),
        ('"kind": "training"', '"kind": "x"', [(4, 'scenarios[1]: unknown kind "x"; known are "training", "pytest"')]),
        ('"kind": "training",\n', "", [(4, 'scenarios[1]: "kind" is missing')]),
        (
            '"timeout_minutes": 5',
            '"timeout_minutes": 5,\n  "timeout_minutes": 6',
            [(13, "timeout_minutes: the key is")],
        ),
        (
            '"timeout_minutes": 5',
            '"timeout_minutes": 5,',
            [(12, "not valid JSON: there is a comma too many, at column 23")],
        ),
        (
            '"timeout_minutes": 5',
            '"timeout_minutes": five',
            [
                (12, "not valid JSON: text needs double quotes: five, at column 22"),
                (12, 'timeout_minutes: must be a number, not "five"'),
            ],
        ),
        (
            '"kind": "training"',
            '"kind": "pytest", "path": "x"',
            [
                (7, '"scenarios[1].script" is a key of kind "training", not of kind "pytest"'),
                (8, '"scenarios[1].nodes" is a key of kind "training", not of kind "pytest"'),
                (9, '"scenarios[1].distribution" is a key of kind "training", not of kind "pytest"'),
            ],
        ),
        (
            '"script": "mpi.py"',
            '"script": "mpi.py", "path": "x"',
            [(7, '"scenarios[1].path" is a key of kind "pytest", not of kind "training"')],
        ),
        ('"nodes": 2', '"nodes": 2, "compute": "x"', [(8, 'unknown key "scenarios[1].compute"; known keys: distrib')]),
        (
            '"timeout_minutes": 5',
            '"xyz": 5',
            [(12, 'unknown key "xyz"; known keys: compute, scenarios, timeout_minutes')],
        ),
    ],
)
def test_faults(old, new, expected):
    assert old in PLAN
    before, _, after = PLAN.rpartition(old)
    found = faults(before + new + after)
    assert [line for line, _ in found] == [line for line, _ in expected]
    for (_, message), (_, beginning) in zip(found, expected, strict=True):
        assert message.startswith(beginning)


def test_all_faults_at_once():
    scenario = '{"name": "a", "kind": "training", "script": "a.py", "nodez": 1}'
    text = f'{{"scenarios": [\n{scenario},\n{{"kind": "pytest"}}],\n"x": 1}}'
    assert [line for line, _ in faults(text)] == [2, 3, 3, 4]


def test_all_faults_at_once_whatever_else_is_wrong():
    text = """{
  "scenarios": [
    {"name": "A b", "kind": "trainin", "script": "/x.py", "nodes": "two"},
    {"name": "a", "kind": "training", "script": "../x.py", "nodes": 3, "processes_per_nod": 3},
    {"name": "a", "kind": "pytest"},
    {"path": "x"},
    "text"
  ]
}"""
    assert faults(text) == [
        (
            3,
            f'scenarios[0].name: must be {NAME_FORM}, not "A b"',
        ),
        (3, 'scenarios[0].nodes: must be a whole number, not "two"'),
        (3, "scenarios[0].script: write a path without a leading /, without .. and with / between the folders"),
        (3, 'scenarios[0]: unknown kind "trainin"; did you mean "training"?'),
        (4, "scenarios[1].script: write a path without a leading /, without .. and with / between the folders"),
        (4, 'scenarios[1]: more than one process needs "distribution": "mpi" or "pytorch"'),
        (4, 'unknown key "scenarios[1].processes_per_nod"; did you mean "processes_per_node"?'),
        (5, '"scenarios[2].path" is missing'),
        (5, 'scenarios[2].name: must be unique; scenarios[1] is named "a", too'),
        (6, '"scenarios[3].name" is missing'),
        (6, 'scenarios[3]: "kind" is missing'),
        (7, 'scenarios[4]: must be a map of keys and values, not "text"'),
    ]


def test_all_mistakes_of_syntax_at_once_and_what_else_is_wrong():
    text = r"""{ // a comment
  'scenarios': [
    {"name": "a", "kind": "training", "script": "x.py",},
    {"name": "b" "kind": "training", "script" "y.py",, "nodes": True},
    {name: "c", "kind": "training", "script": "C:\x.py", "nodes": 0} /* and
    more */
  ]
"""
    column = "at column"
    assert faults(text) == [
        (1, f"not valid JSON: there are no comments in JSON, {column} 3"),
        (2, f'not valid JSON: write "scenarios", with double quotes, {column} 3'),
        (3, f"not valid JSON: there is a comma too many, {column} 55"),
        (4, f"not valid JSON: a colon is missing before this, {column} 47"),
        (4, f"not valid JSON: a comma is missing before this, {column} 18"),
        (4, f"not valid JSON: there is a comma too many, {column} 54"),
        (4, f"not valid JSON: write true, not True, {column} 65"),
        (4, "scenarios[1].nodes: must be a whole number, not true"),
        (5, f"not valid JSON: text needs double quotes: name, {column} 6"),
        (5, f"not valid JSON: there are no comments in JSON, {column} 70"),
        (5, f"not valid JSON: write \\\\ for a backslash, {column} 50"),
        (5, "scenarios[2].nodes: must be at least 1, not 0"),
        (5, "scenarios[2].script: write a path without a leading /, without .. and with / between the folders"),
        (7, f"not valid JSON: }} is missing at the end, {column} 4"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expecting value, at column 1"),
        ('{"scenarios": [}', "expecting value, at column 16"),
        ('{"a": "b\n"}', "invalid control character at, at column 9"),
        ('{"scenarios": 1]', "expecting ',' delimiter, at column 16"),
        ("[] []", "something follows after the end, at column 4"),
    ],
)
def test_a_mistake_of_syntax_that_cannot_be_corrected_is_reported_too(text, message):
    assert f"not valid JSON: {message}" in [said for _, said in faults(text)]


@given(st.data())
def test_a_damaged_file_has_its_mistakes_in_its_own_lines(data):
    place = data.draw(st.integers(0, len(PLAN) - 1))
    instead = data.draw(st.sampled_from(["", ",", "'", '"', "}", "]", "//", "x", "\\", ":"]))
    damaged = PLAN[:place] + instead + PLAN[place + 1 :]
    _, findings = read_model_file(TestPlan, damaged.encode(), "tests.json", image="base/x")
    assert all(finding.line is None or 1 <= finding.line <= damaged.count("\n") + 1 for finding in findings)
    try:
        json.loads(damaged)
    except json.JSONDecodeError as error:
        told = [finding.line for finding in findings if finding.message.startswith("not valid JSON: ")]
        assert min(told) <= error.lineno


@pytest.mark.parametrize("text", ["", "[]", "null", "1", '"text"', '{"scenarios": []}', b"\xff{}", "[" * 100_000])
def test_nothing_crashes_it(text):
    assert faults(text)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        ("9" * 5000, "a number of 5,000 digits is too long"),
        ("-" + "9" * 5000, "a number of 5,000 digits is too long"),
        ("1e999", "1e999 is not a finite number"),
        ("NaN", "NaN is not a finite number"),
        ("-Infinity", "-Infinity is not a finite number"),
        ("9" * 299, "must be at most 1440"),
    ],
)
def test_a_number_that_cannot_be_held_is_one_mistake_with_its_line(number, message):
    text = PLAN.replace('"timeout_minutes": 5', f'"timeout_minutes": {number}')
    assert faults(text) == [(12, f"timeout_minutes: {message}")]


@pytest.mark.parametrize(
    "text", ['{"compute": "\\ud800"}', '{"a":' * 300 + "1" + "}" * 300, '{"a":' * 900 + "1" + "}" * 900]
)
def test_what_is_json_and_yet_cannot_be_held(text):
    ((line, message),) = faults(text)
    assert line is None
    assert message in (
        "nested too deeply",
        "a text has half of a surrogate pair (\\ud800 to \\udfff), which is no character",
    )


def test_image_file():
    good = '{"eol": "2026-01-31", "owners": ["team:x", "a@example.org"], "build_args": {"A": "1"}}'
    assert faults(good, ImageFile) == []
    for day in ("soon", "2026-02-30"):
        expected = f'eol: must be a day, written as YYYY-MM-DD, not "{day}"'
        assert faults(f'{{\n"eol": "{day}"}}', ImageFile) == [(2, expected)]
    assert faults('{"build_args": {"A":\n 1}}', ImageFile)[0][1] == "build_args.A: must be text, not 1"
    assert faults('{\n\n"Platform": "linux/amd64"}', ImageFile) == [
        (3, 'unknown key "Platform"; did you mean "platform"?')
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=20,
)


def _locations(value, at=()):
    yield at
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        yield from _locations(inner, (*at, step))


@given(json_values, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_every_value_has_its_line(value, indent, ascii_only):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    where = json_lines(text.encode())
    assert set(where.lines) == set(_locations(value))
    assert not where.remarks
    if indent is None:
        assert set(where.lines.values()) == {1}
    else:
        lines = text.split("\n")
        for location, line in where.lines.items():
            if location and isinstance(location[-1], str):
                assert lines[line - 1].strip().startswith(json.dumps(location[-1], ensure_ascii=ascii_only) + ":")


@given(st.text() | json_values.map(json.dumps))
def test_any_text_is_read_or_refused(text):
    faults(text.encode("utf-8", "surrogatepass"))
