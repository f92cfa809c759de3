"""Timing .tflite files of any converter: beside each other, and operator by operator."""
