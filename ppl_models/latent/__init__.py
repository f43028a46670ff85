"""How the discrete latents of a model hang together: the local structures of mixtures and HMMs."""
