"""Songs for an affect: the catalogue, the paper's mapping from faces to music, and listeners who change it."""
