"""Training jobs on Azure Machine Learning: every scenario is a command job of a workspace."""
