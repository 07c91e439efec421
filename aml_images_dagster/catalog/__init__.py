"""What images exist, what is built FROM what, and what a change touches. No network, no engine."""
