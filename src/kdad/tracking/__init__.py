"""Where runs are recorded: first on disk, then in MLflow, so that nothing that MLflow does can cost a training."""
