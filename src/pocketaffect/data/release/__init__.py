"""What a user brings: AffectNet's releases, loose or in archives, as one table of annotations."""
