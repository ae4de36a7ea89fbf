"""Projections on random blocks of rows."""
