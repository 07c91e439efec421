"""The command line `aml-images`."""
