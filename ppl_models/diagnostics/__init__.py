"""Checks on a fit: each a value with a reason."""
