"""Patterns that give every image a name: `public/azureml/{name}`."""

from __future__ import annotations

from string import Formatter


def check_name_pattern(value: str, example: str) -> str:
    """A pattern with {name}, and perhaps {family}.

    Raises:
        ValueError: It has something else between braces, or would give all images one name.
    """
    try:
        fields = {field for _, field, _, _ in Formatter().parse(value) if field is not None}
    except ValueError:
        raise ValueError("a brace is not closed") from None
    if not {"name"} <= fields <= {"name", "family"}:
        raise ValueError(f"write a repository with {{name}} and perhaps {{family}}, e.g. {example}")
    return value
