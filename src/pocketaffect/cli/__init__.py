"""`pocketaffect …`: a file for each group of commands, and `main` which holds them."""
