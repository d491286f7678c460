"""What the page shows and remembers, without Gradio: one visitor's session, and the HTML made from it."""
