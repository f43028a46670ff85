"""Whether fits are right, by data whose parameters are known: simulation-based calibration.

bands.py has bands and p-values of uniform ranks in closed form, simulation.py one simulation from the prior
to the rank of the truth, running.py many of them on several processes, result.py what they say in words.
"""
