"""Write the JSON schemas of the files that people write, from the models that read them.

Run `python docs/schemas/generate.py` after a change of a model.
"""

from __future__ import annotations

import json
from pathlib import Path

from aml_images_dagster.catalog.image_file import ImageFile
from aml_images_dagster.catalog.tests_file import TestPlan
from aml_images_dagster.notifications.rules import NotificationRules
from aml_images_dagster.schedules import ScheduleFile
from aml_images_dagster.vulnerabilities.policy import Policy

SCHEMAS = {
    "tests.schema.json": ("tests.json of an image folder", TestPlan),
    "image.schema.json": ("image.json of an image folder", ImageFile),
    "schedule.schema.json": ("a file of schedules/", ScheduleFile),
    "notifications.schema.json": ("notifications.yaml", NotificationRules),
    "policy.schema.json": ("policy.yaml", Policy),
}


def generate() -> dict[str, str]:
    """The text of every schema, by file name."""
    texts = {}
    for name, (title, model) in SCHEMAS.items():
        schema = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **model.model_json_schema(),
            "title": title,
        }
        texts[name] = json.dumps(schema, indent=2) + "\n"
    return texts


if __name__ == "__main__":
    for name, text in generate().items():
        (Path(__file__).parent / name).write_text(text, encoding="utf-8")
