"""MNIST: its published files, read and stored."""
