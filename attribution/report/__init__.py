"""An answer written down, and computed again."""
