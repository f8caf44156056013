"""The Python API: what the app and the commands do, in a script or a notebook, in this process."""
