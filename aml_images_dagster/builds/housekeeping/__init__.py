"""What is done after a build: nothing is left of one that has failed, and damaged records are repaired."""
