"""Training images and other pictures: where they lie, what they say, who must not be shown."""
