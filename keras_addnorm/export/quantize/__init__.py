"""Float32 .tflite files in fewer bits: weights, and activations of ranges seen in samples.

A recipe is a function from the bytes of a file, and samples where it looks at any, to the bytes of
the quantized one; `keras_addnorm.export.recipes` lists them.
"""
