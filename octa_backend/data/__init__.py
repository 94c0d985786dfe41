"""From an uploaded zip to prepared arrays, and synthetic data."""
