"""What papers do to images before training."""
