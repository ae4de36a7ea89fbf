"""The theory of wide networks: criticality, finite width, learning curves, kernel design."""
