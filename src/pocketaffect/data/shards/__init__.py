"""Faces and labels as memory-mapped arrays, and the batches that training takes from them."""
