"""Fine-tuning by Ultralytics' own trainer with the cut structure kept, stopped and resumed exactly."""
