"""Ground truth: small models trained anew on halves, and new words planted in a collection."""
