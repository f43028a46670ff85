"""Bayesian regression of a label on columns of a table.

A `formula` or a list of columns becomes a `design` matrix; `glm` is the likelihood with one of the `priors`,
or the `horseshoe`. `fitting` chooses by the size of the problem how the Gaussian posterior is found: with a
full covariance (`newton`), without one (`wide`), or under a horseshoe by expectation propagation (`ep`),
after which `moves` makes draws exact. `forms` are the posteriors that come out, and `bound` puts them to use.
"""
