"""Files that are handed out with a model; they import nothing of this program."""
