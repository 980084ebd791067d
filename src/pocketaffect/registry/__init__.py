"""MLflow's store, the lineage of a run, and the versions of a model."""
