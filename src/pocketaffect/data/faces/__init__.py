"""Image files to pictures, pictures to faces."""
