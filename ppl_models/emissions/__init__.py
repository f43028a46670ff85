"""Emission families: what a row looks like in each state. Mixtures and HMMs share them."""
