"""What is reproduced and by which rules: the catalogue, the recipe, the training protocol and the verdict."""
