"""Where results are kept: MLflow, the results tables, a trial as artifacts."""
