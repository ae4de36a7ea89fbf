"""One reduction to a band for all ridges."""
