"""Families of distributions: what the columns of a row may follow."""
