"""Models of one's own: a Pyro program over the columns of a table, fitted without a word on how.

columns.py      what the program sees of the data
failures.py     what goes wrong in it, as one line that names the file, the line and the site
sites.py        its sites, discovered by executing it once
execution.py    one execution at a point: log densities, with the discrete latents summed out
density.py      log p(x, θ(u)) + log |∂θ/∂u| at many points at once
missing.py      cells that are not there
start.py        modes and their neighbourhoods, from several starts at once
bound.py        all that a fit asks of a model
moving.py       draws moved to the posterior, where its Gaussian is too far from it
simulate.py     observed sites drawn anew, and the posterior of discrete latents
pair.py         the guide as a Pyro program
"""
