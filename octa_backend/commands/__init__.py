"""The bodies of the `octa` commands."""
