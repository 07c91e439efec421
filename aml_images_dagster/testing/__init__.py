"""Test runners: what starts a scenario as a training job in a staged image."""
