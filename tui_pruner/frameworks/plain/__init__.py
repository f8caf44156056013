"""Any `torch.nn.Module`, from any library."""
