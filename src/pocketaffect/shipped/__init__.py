"""The network that comes with pocketaffect, and what makes it: this folder is part of every installed package."""
