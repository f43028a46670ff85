"""Models of rows with a discrete latent each: what mixtures and hidden Markov models share.

`joint` is their density, of emissions and a local `structure`: latents that are independent (`independent`)
or follow one another (`markov`). The E step of a `batch` is exact, by compiled kernels where there
are any. `train` races restarts and lets `exchange` split and merge components; `calibrate` gives
draws the right widths, with the latents summed out (`unconstrained`) and the states named alike (`identify`).
"""
