"""Stage `infer`: what a manifest for a model and a dataset would say, told from the files, with nothing loaded."""
