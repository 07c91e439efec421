"""Sign-in to Azure, and the addresses of its services."""
