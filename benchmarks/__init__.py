"""What is reproduced and by which rules: the catalog, the recipe, the training protocol and the verdict."""
