"""Evidence of an image: what is in it, where it comes from, and who has signed it."""
