"""Leaves out what needs NumPyro, which only whoever makes the tables anew has to have."""

collect_ignore = ["densities.py", "make.py"]
