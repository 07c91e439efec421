"""Who is notified of what: rules in a file of the repository, messages through Apprise."""
