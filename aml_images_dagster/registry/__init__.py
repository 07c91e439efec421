"""Image registries: what they hold, and moving images from one to another."""
