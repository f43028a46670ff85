"""Networks of dense layers for tables."""
