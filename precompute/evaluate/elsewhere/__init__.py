"""Other data by the same library calls: an image classifier and a language model."""
