"""What starts and ends builds by itself."""
