"""The machine: device, precision, memory."""
