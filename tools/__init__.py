"""What the make targets run that is neither the package nor its tests."""
