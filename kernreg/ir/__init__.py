"""The compiler: programs, tracing of duals, code generation and passes."""
