"""The page's panels, a file for each: its parts, how they are laid out, what they do, and which event does it."""
