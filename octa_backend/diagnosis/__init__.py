"""Pure functions from numbers to findings."""
