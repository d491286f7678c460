"""Gradients of examples, projected layer by layer while they are made."""
