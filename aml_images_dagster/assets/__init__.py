"""The pipeline as software-defined assets: staged, tested, release_config, import_cfg, and the files of a build."""
