"""Networks: the three of the paper, and the two heads on top of any of them."""
