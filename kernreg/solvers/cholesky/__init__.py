"""Direct solvers: Cholesky factors in memory and on disk."""
