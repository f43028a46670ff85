"""The transformer over fields."""
