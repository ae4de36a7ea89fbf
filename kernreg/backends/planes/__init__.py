"""Spatial programs for the C++ engine: planes of a covariance, stage by stage (csrc/plane.inl)."""
