"""Rules that look at a model file and say what is known to go wrong with it."""
