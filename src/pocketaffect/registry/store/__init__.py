"""MLflow's store: runs, and the versions of a model with what is kept of each."""
