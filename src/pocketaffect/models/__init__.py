"""Networks: the three of the paper, timm's for phones, and the two heads on top of any of them."""
