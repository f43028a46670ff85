"""Compiled recursions and sums: nothing of models in them."""
