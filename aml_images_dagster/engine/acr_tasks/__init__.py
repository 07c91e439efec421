"""Building on ACR Tasks: the build service of Azure Container Registry, with Linux and Windows agents."""
