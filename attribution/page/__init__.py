"""The page: what it shows, remembers and answers; its panels, its endpoints for programs, and its doors."""
