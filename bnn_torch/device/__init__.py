"""What concerns the device: data and epochs that stay on a GPU, cropping there, torch.compile, and a GPU's limits."""
