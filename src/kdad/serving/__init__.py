"""A detector that answers: as a model of MLflow, and over HTTP."""
