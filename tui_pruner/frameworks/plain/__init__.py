"""Any `torch.nn.Module`, whatever library it is from."""
