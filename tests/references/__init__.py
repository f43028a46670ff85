"""Reference posteriors from long runs of the No-U-Turn sampler, to hold ours against.

`cases.CASES` has the data and the model of each case, `tables.load(name)` the posterior of it, which
`make.py` wrote with NumPyro: other code, another sampler, and densities written a second time.
"""
