"""HTTP: parse, one service call, show."""
