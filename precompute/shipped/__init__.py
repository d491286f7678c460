"""Our own demonstration world: its pictures, and the model trained on them."""
