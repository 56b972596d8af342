"""Recognition of audio while it arrives."""
