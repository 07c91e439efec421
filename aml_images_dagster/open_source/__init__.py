"""Open source: publication of the public part of the image folders in a public repository."""
