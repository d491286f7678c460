"""What is asked of a picture, and what the scores say: ranking, p-values, shares, and likeness beside it."""
