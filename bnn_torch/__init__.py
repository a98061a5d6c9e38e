"""How the recipes are computed on PyTorch, on CPUs and on NVIDIA GPUs."""
