"""Any `torch.nn.Module`, no matter what library it is from."""
