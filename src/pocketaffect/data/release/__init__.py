"""What a user brings: a data set in one of several layouts, loose or in archives, as one table of annotations."""
