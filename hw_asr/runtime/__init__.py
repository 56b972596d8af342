"""What every part runs on: processes and devices, files, locks, downloads, compiled kernels, entry points."""
