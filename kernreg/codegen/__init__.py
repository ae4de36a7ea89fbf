"""C++ and Triton text of duals; needs neither NumPy nor torch."""
