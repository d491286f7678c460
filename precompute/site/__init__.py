"""A demo that needs no server: its numbers, its pictures, what is told of them, and the page that shows them."""
