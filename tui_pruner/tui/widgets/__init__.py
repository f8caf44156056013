"""The parts of the workbench, each drawing what a pure function beside it computed."""
