"""Fine-tuning and distillation by Ultralytics' own trainer, with the cut structure kept, and exact resuming."""
