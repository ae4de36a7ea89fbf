"""The language between layers and backends: operations, programs, the trace of duals."""
