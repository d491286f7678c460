"""Closer looks at an answer: where, how deep, how steady, without whom."""
