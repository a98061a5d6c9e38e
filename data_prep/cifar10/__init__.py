"""CIFAR-10: its published files, and its whitened images."""
