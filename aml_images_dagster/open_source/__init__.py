"""Open source: the public part of the image folders, in a public repository, without anything that is not public."""
