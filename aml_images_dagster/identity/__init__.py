"""Who we are in Azure, and where its services are."""
