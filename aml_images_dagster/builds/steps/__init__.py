"""What the steps of a build do with an image: its bases and recipe, reuse or staging, scenarios, evidence."""
