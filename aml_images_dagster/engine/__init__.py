"""Container engines: what builds images and moves them to and from registries."""
