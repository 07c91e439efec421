"""What is known to be wrong with the packages of an image: who says so, and what the policy makes of it. No Dagster."""
