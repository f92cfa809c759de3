"""What several families share: keys of configs, names of tensors, heads."""
