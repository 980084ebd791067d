"""The user study: consent, the paper's ten prompts, the store of its numbers, and the report on them."""
