"""Policies: one method a file, each a composition of a backbone and a head."""
