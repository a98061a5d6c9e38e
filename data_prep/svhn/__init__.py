"""SVHN: its published files, the split of the papers, and its normalized images."""
