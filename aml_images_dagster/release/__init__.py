"""Release files and changes of production."""
