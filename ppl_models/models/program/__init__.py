"""Models that users write as Pyro programs."""
