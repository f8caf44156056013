"""What an action is, which keys it has, and where it is found: nothing here imports the controllers that offer actions."""
