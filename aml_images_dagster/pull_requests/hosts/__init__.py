"""Where pull requests are discussed: who has made one, its status, and the one comment about its build."""
