"""What a build hands to the release system."""
