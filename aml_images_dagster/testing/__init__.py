"""Test runners: they start a scenario as a training job in a staged image."""
