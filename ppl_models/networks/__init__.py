"""What models with neural networks share."""
