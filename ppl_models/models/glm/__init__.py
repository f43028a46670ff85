"""Generalised linear models: numbers, counts, shares and ordered labels as targets."""
