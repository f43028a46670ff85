"""The models: one file each, the density first."""
