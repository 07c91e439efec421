"""Evidence: what is in an image, and proof of where it comes from."""
