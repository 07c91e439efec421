"""Versions of an image: finding one, what changed between two, and the notes of a release."""
