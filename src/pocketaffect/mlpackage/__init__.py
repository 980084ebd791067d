"""Reads, executes, inspects and weighs any ML Program package, on any system; knows nothing of faces."""
