"""What models run on: devices, precisions, memory."""
