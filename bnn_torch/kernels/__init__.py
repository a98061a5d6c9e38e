"""What PyTorch has no fast or no bit-exact operation for; nobody needs it in order to understand the engine."""
