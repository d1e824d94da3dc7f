"""Events of MLflow's registry into pipeline runs."""
