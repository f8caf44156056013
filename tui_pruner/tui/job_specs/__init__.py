"""job_specs."""
