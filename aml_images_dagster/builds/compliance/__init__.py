"""What is in an image, held against what is allowed: notices, the gate of a build, fixes that production lacks."""
