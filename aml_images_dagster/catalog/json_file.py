"""Reading tests.json and image.json: everything that is wrong at once, each with its line and a hint."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import ValidationError

from aml_images_dagster.catalog.finding import Finding
from aml_images_dagster.catalog.json_lines import locate
from aml_images_dagster.catalog.model_faults import Remark, model_faults, repeated_keys
from aml_images_dagster.catalog.tests_file import StrictModel
from aml_images_dagster.wrong_value import lower_first

Model = TypeVar("Model", bound=StrictModel)


def read_json_file(
    model: type[Model], content: bytes, *, image: str, path: str
) -> tuple[Model | None, tuple[Finding, ...]]:
    """Read a file into its model.

    Args:
        model: What the file has to be.
        content: The file's bytes.
        image: `<family>/<image name>`, for the findings.
        path: The file, relative to the repository, for the findings.

    Returns:
        The model, or None when the file is wrong; and what is wrong, sorted by line.
    """
    read: Model | None = None
    remarks: list[Remark]
    try:
        text = content.decode("utf-8-sig")
        data = json.loads(text)
    except UnicodeDecodeError as error:
        remarks = [(content.count(b"\n", 0, error.start) + 1, "not UTF-8 text")]
    except json.JSONDecodeError as error:
        remarks = [(error.lineno, f"not valid JSON: {lower_first(error.msg)}, at column {error.colno}")]
    except RecursionError:
        remarks = [(None, "nested too deeply")]
    else:
        where = locate(text)
        remarks = repeated_keys(where)
        try:
            read = model.model_validate_json(text, strict=True)
        except ValidationError as error:
            remarks.extend(model_faults(error, model, data, where))
    if remarks:
        read = None
    findings = {Finding(image, "error", message, path, line) for line, message in remarks}
    return read, tuple(sorted(findings, key=lambda finding: (finding.line or 0, finding.message)))
