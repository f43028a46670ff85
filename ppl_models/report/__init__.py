"""A fit for people: as text, and as HTML."""
