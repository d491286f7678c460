"""Features of a training set on disk: written, checked, scored, weighted."""
