"""Building with BuildKit, through the program buildx."""
