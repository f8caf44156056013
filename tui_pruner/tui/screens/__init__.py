"""The screens: the workbench, the start screen, and the questions between them."""
