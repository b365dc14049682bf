"""Pictures from folders and MindRecord files to unpaired training batches."""
