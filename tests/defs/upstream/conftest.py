"""Bases are pushed to a real registry: here `repository` is one of it again, not a repository of image folders."""

from tests.conftest import repository as repository  # a fixture
