"""The shell package of a drop: runs where this package is not installed."""
